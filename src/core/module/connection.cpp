// SPDX-License-Identifier: BSD-3-Clause
// The module's functions about a callback's connection: its export, and who is at the other end.
#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>

#include "common.hpp"

namespace nbdkit_python::module {
namespace {

// For what the server knows of a connection: -1 or null is its word for having none, or not that.
[[noreturn]] void raise_unknown(const char* function) {
  raise(PyExc_RuntimeError,
        std::string{"nbdkit."} + function + ": not known: it must be called in a callback of a connection that has it");
}

py::str known(const char* function, char* text) {
  const Text owned{text, std::free};
  if (!owned) raise_unknown(function);
  return to_str(owned.get());
}

py::int_ known(const char* function, std::int64_t value) {
  if (value == -1) raise_unknown(function);
  return value;
}

py::str export_name() {
  const char* const name = server().export_name();
  if (name == nullptr) raise_unknown("export_name");
  return to_str(name);
}

py::bool_ is_tls() {
  const int answer = server().is_tls();
  if (answer == -1) raise_unknown("is_tls");
  return py::bool_{answer != 0};
}

// As socket.getpeername() has it.
py::object peer_name() {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto* const address = reinterpret_cast<sockaddr*>(&storage);
  if (server().peer_name(address, &size) == -1) raise_unknown("peer_name");
  char host[INET6_ADDRSTRLEN];
  switch (address->sa_family) {
    case AF_UNIX: {
      const auto* const name = reinterpret_cast<const sockaddr_un*>(address);
      if (size <= offsetof(sockaddr_un, sun_path)) return py::str{""};
      // A name in the abstract namespace begins with a NUL, and may have more of them.
      const std::size_t length = size - offsetof(sockaddr_un, sun_path);
      if (name->sun_path[0] == '\0') return py::bytes{name->sun_path, length};
      const std::string path{name->sun_path, strnlen(name->sun_path, length)};
      return py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefault(path.c_str()));
    }
    case AF_INET: {
      const auto* const name = reinterpret_cast<const sockaddr_in*>(address);
      return py::make_tuple(inet_ntop(AF_INET, &name->sin_addr, host, sizeof host), ntohs(name->sin_port));
    }
    case AF_INET6: {
      const auto* const name = reinterpret_cast<const sockaddr_in6*>(address);
      return py::make_tuple(inet_ntop(AF_INET6, &name->sin6_addr, host, sizeof host), ntohs(name->sin6_port),
                            ntohl(name->sin6_flowinfo), name->sin6_scope_id);
    }
    case AF_VSOCK: {
      const auto* const name = reinterpret_cast<const sockaddr_vm*>(address);
      return py::make_tuple(name->svm_cid, name->svm_port);
    }
    default: {
      constexpr std::size_t header = offsetof(sockaddr, sa_data);
      const std::size_t length = std::min<std::size_t>(size, sizeof storage);
      const char* const data = reinterpret_cast<const char*>(&storage) + header;
      return py::make_tuple(static_cast<int>(address->sa_family),
                            py::bytes{data, length > header ? length - header : 0});
    }
  }
}

}  // namespace

void define_connection(py::module_& m) {
  const Server& s = server();
  if (s.export_name)
    define_of_call(
        m, "export_name", std::function{export_name},
        "export_name() -> str\n\nThe export that this connection's client asked for. It can be anything: bytes that "
        "are not UTF-8 arrive as lone surrogates, as in file names.\nRaises RuntimeError outside a connection.");
  if (s.is_tls)
    define_of_call(
        m, "is_tls", std::function{is_tls},
        "is_tls() -> bool\n\nWhether this connection is encrypted.\nRaises RuntimeError outside a connection.");
  if (s.peer_name)
    define_of_call(m, "peer_name", std::function{peer_name},
                   "peer_name() -> str or tuple\n\nThe client's address, in the form of socket.getpeername().\nRaises "
                   "RuntimeError where it is not known.");
  const auto define_id = [&m](const char* name, std::int64_t (*Server::*member)(), const char* doc) {
    if (server().*member)
      define_of_call(m, name, std::function{[name, member] { return known(name, (server().*member)()); }}, doc);
  };
  define_id(
      "peer_pid", &Server::peer_pid,
      "peer_pid() -> int\n\nThe client's process id; on Unix sockets.\nRaises RuntimeError where it is not known.");
  define_id("peer_uid", &Server::peer_uid,
            "peer_uid() -> int\n\nThe client's user id; on Unix sockets.\nRaises RuntimeError where it is not known.");
  define_id("peer_gid", &Server::peer_gid,
            "peer_gid() -> int\n\nThe client's group id; on Unix sockets.\nRaises RuntimeError where it is not known.");
  const auto define_text = [&m](const char* name, char* (*Server::*member)(), const char* doc) {
    if (server().*member)
      define_of_call(m, name, std::function{[name, member] {
                       // Where there is no connection, nbdkit's functions about TLS abort the process.
                       if (server().is_tls && server().is_tls() == -1) raise_unknown(name);
                       return known(name, (server().*member)());
                     }},
                     doc);
  };
  define_text(
      "peer_security_context", &Server::peer_security_context,
      "peer_security_context() -> str\n\nThe client's security label (SELinux and others).\nRaises RuntimeError "
      "where it is not known.");
  define_text("peer_tls_dn", &Server::peer_tls_dn,
              "peer_tls_dn() -> str\n\nThe distinguished name in the client's TLS certificate.\nRaises RuntimeError "
              "where it is not known.");
  define_text("peer_tls_issuer_dn", &Server::peer_tls_issuer_dn,
              "peer_tls_issuer_dn() -> str\n\nThe distinguished name of who issued the client's TLS certificate.\n"
              "Raises RuntimeError where it is not known.");
}

}  // namespace nbdkit_python::module
