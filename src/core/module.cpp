// SPDX-License-Identifier: BSD-3-Clause
// `_nbdkit`: the server's functions as Python's. The package `nbdkit` re-exports all that has no underscore.
//
// A function that the running server lacks is not defined here; the package tells the script which version has it.
// C++ exceptions stay inside this file.
#include "module.hpp"

#include <netinet/in.h>
#include <pybind11/pybind11.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <linux/vm_sockets.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "nbdkit_python/call.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python {
namespace {

namespace py = pybind11;

// The server of the callback that is running in this thread, or the process's.
const Server& server() noexcept {
  const Call* const call = Call::current();
  return call ? call->script().server() : interpreter::server();
}

[[noreturn]] void raise(PyObject* type, const std::string& message) {
  PyErr_SetString(type, message.c_str());
  throw py::error_already_set();
}

[[noreturn]] void raise_os_error(int err, const std::string& message) {
  const auto arguments = py::make_tuple(err, message);
  PyErr_SetObject(PyExc_OSError, arguments.ptr());
  throw py::error_already_set();
}

// Arguments. `where` begins the error's message: the function and, where there are several, the parameter.

std::string text(const char* where, const py::object& value) {
  if (!PyUnicode_Check(value.ptr()))
    raise(PyExc_TypeError, std::string{where} + ": expected a str, got " + describe(value.ptr()));
  auto result = to_text(value.ptr());
  if (result) return std::move(*result);
  PyErr_Clear();
  raise(PyExc_ValueError,
        std::string{where} + ": expected a str that UTF-8 can encode, without NULs, got " + describe(value.ptr()));
}

std::string path(const char* where, const py::object& value) {
  PyObject* bytes = nullptr;
  if (PyUnicode_FSConverter(value.ptr(), &bytes) == 0) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
    PyErr_Clear();
    raise(PyExc_TypeError, std::string{where} + ": expected a path, got " + describe(value.ptr()));
  }
  return py::reinterpret_steal<py::bytes>(bytes);
}

template <typename Int>
Int number(const char* where, const py::object& value, Int low, Int high) {
  if (!PyLong_Check(value.ptr()))
    raise(PyExc_TypeError, std::string{where} + ": expected an int, got " + describe(value.ptr()));
  int overflow = 0;
  const long long result = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  if (overflow != 0 || result < static_cast<long long>(low) || result > static_cast<long long>(high))
    raise(PyExc_ValueError, std::string{where} + ": expected an int from " + std::to_string(low) + " to " +
                                std::to_string(high) + ", got " + describe(value.ptr()));
  return static_cast<Int>(result);
}

// Strings from the server may have any bytes in them, as file names may.
py::str to_str(const char* text) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(std::strlen(text)), "surrogateescape"));
}

using Text = std::unique_ptr<char, decltype(&std::free)>;

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

void set_error(const py::object& err) {
  const int value = number("nbdkit.set_error: err", err, 0, 4095);
  if (Call* const call = Call::current())
    call->set_error(value);
  else
    server().debug("nbdkit.set_error: ignored: no callback is running in this thread");
}

py::str export_name() {
  const char* const name = server().export_name();
  if (name == nullptr) raise_unknown("export_name");
  return to_str(name);
}

bool is_tls() {
  const int answer = server().is_tls();
  if (answer == -1) raise_unknown("is_tls");
  return answer != 0;
}

// Until the server serves it cannot sleep itself: it would wait for a pipe that it has yet to make.
int sleep_alone(unsigned sec, unsigned nsec) noexcept {
  timespec left{static_cast<time_t>(sec) + nsec / 1000000000, static_cast<long>(nsec % 1000000000)};
  while (::nanosleep(&left, &left) == -1)
    if (errno != EINTR) return -1;
  return 0;
}

void nanosleep(const py::object& sec, const py::object& nsec) {
  const auto s = number<unsigned>("nbdkit.nanosleep: sec", sec, 0, std::numeric_limits<int>::max());
  const auto n = number<unsigned>("nbdkit.nanosleep: nsec", nsec, 0, std::numeric_limits<unsigned>::max());
  const auto& serving_sleep = server().nanosleep;
  int result;
  {
    const py::gil_scoped_release others_run;
    result = interpreter::serving() ? serving_sleep(s, n) : sleep_alone(s, n);
  }
  if (result == -1) raise_os_error(ESHUTDOWN, "nbdkit.nanosleep: the server or the connection is going away");
}

py::bytes read_password(const py::object& value) {
  const std::string how = text("nbdkit.read_password", value);
  char* password = nullptr;
  int result, err;
  {
    const py::gil_scoped_release others_run;  // it may ask a person
    errno = 0;
    result = server().read_password(how.c_str(), &password);
    err = errno;
  }
  if (result == -1)
    raise_os_error(err ? err : EINVAL, "nbdkit.read_password: the password cannot be read; the log says why");
  const Text owned{password, std::free};
  py::bytes secret{password};
  explicit_bzero(password, std::strlen(password));
  return secret;
}

using PathFunction = char* (*)(const char*);

py::str resolved_path(const char* where, PathFunction function, const py::object& value) {
  const std::string name = path(where, value);
  errno = 0;
  const Text result{function(name.c_str()), std::free};
  const int err = errno ? errno : EINVAL;
  if (!result) raise_os_error(err, std::string{where} + ": " + std::strerror(err) + ": " + describe(value.ptr()));
  return py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefault(result.get()));
}

py::int_ parse_size(const py::object& string) {
  const std::int64_t size = server().parse_size(text("nbdkit.parse_size", string).c_str());
  if (size == -1)
    raise(PyExc_ValueError, "nbdkit.parse_size: expected a size such as 512, 4k or 1G, got " + describe(string.ptr()));
  return size;
}

bool parse_bool(const py::object& string) {
  const int answer = server().parse_bool(text("nbdkit.parse_bool", string).c_str());
  if (answer == -1)
    raise(PyExc_ValueError,
          "nbdkit.parse_bool: expected true or false, on or off, yes or no, 1 or 0, got " + describe(string.ptr()));
  return answer != 0;
}

// The parsers that take `what`, the parameter's name for the message.
template <typename... Results>
void parse(int (*parser)(const char*, const char*, Results*...), const char* function, const py::object& what,
           const py::object& string, Results*... results) {
  const std::string where = std::string{"nbdkit."} + function;
  const std::string name = text((where + ": what").c_str(), what);
  if (parser(name.c_str(), text((where + ": str").c_str(), string).c_str(), results...) == -1)
    raise(PyExc_ValueError, where + ": " + name + ": not a number of this kind, or out of its range: " +
                                describe(string.ptr()) + "; the log says more");
}

template <typename Int>
void define_parser(py::module_& m, const char* name, int (*Server::*member)(const char*, const char*, Int*)) {
  if (server().*member == nullptr) return;
  const std::string doc =
      std::string{name} + "(what, str) -> int\n\nThe integer that a parameter's value stands for, from " +
      std::to_string(std::numeric_limits<Int>::min()) + " to " + std::to_string(std::numeric_limits<Int>::max()) +
      "; decimal, 0x or 0 before it for hexadecimal or octal.\nwhat: the parameter's name, for the message.\n"
      "Raises ValueError.";
  m.def(
      name,
      [member, name](const py::object& what, const py::object& string) {
        Int result{};
        parse(server().*member, name, what, string, &result);
        return result;
      },
      py::arg("what"), py::arg("str"), doc.c_str());
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

// A copy, since the server wants contiguous memory and a view can be of every other byte.
py::bytes contiguous(const py::buffer& buffer) {
  auto bytes = py::reinterpret_steal<py::bytes>(PyBytes_FromObject(buffer.ptr()));
  if (!bytes) throw py::error_already_set();
  return bytes;
}

std::string prefix_text(const char* where, const py::object& prefix) {
  return prefix.is_none() ? std::string{} : text(where, prefix);
}

void define_basics(py::module_& m) {
  m.def(
      "debug", [](const py::object& message) { server().debug(log_text(message.ptr()).c_str()); }, py::arg("message"),
      "debug(message)\n\nLog a message (a str, bytes, or anything that str() takes) if nbdkit is verbose (-v).");
  m.def("set_error", set_error, py::arg("err"),
        "set_error(err)\n\nThe errno that the client gets if this callback goes on to raise an exception; 0 takes it "
        "back.\nRaises TypeError, ValueError.");
  const Server& s = server();
  if (s.shutdown)
    m.def("shutdown", interpreter::shutdown,
          "shutdown()\n\nAsk the server to end, once the requests that it is working on are done.");
  if (s.disconnect)
    m.def(
        "disconnect", [](bool force) { server().disconnect(force ? 1 : 0); }, py::arg("force"),
        "disconnect(force)\n\nEnd this callback's connection: at once, or (force false) when its requests are done.");
  if (s.stdio_safe)
    m.def(
        "stdio_safe", [] { return server().stdio_safe() == 1; },
        "stdio_safe() -> bool\n\nWhether standard input and output are free to use: not with `nbdkit -s`, nor once "
        "the server serves.");
  if (s.nanosleep)
    m.def("nanosleep", nanosleep, py::arg("sec"), py::arg("nsec"),
          "nanosleep(sec, nsec)\n\nSleep for that many seconds and nanoseconds, or until the server ends or the client "
          "goes, which raises OSError (ESHUTDOWN).");
  if (s.read_password)
    m.def("read_password", read_password, py::arg("value"),
          "read_password(value) -> bytes\n\nThe password that a parameter's value stands for: the value itself, `-` to "
          "ask for it, `+FILE`, or `-FD` for an open file descriptor.\nRaises OSError.");
  if (s.realpath)
    m.def(
        "realpath", [](const py::object& p) { return resolved_path("nbdkit.realpath", server().realpath, p); },
        py::arg("path"),
        "realpath(path) -> str\n\nThe canonical absolute path of a file that exists.\nRaises OSError.");
  if (s.absolute_path)
    m.def(
        "absolute_path",
        [](const py::object& p) { return resolved_path("nbdkit.absolute_path", server().absolute_path, p); },
        py::arg("path"),
        "absolute_path(path) -> str\n\nThe path made absolute; the file need not exist. In the background a server "
        "works in the root folder, so that parameters must be made absolute in config.\nRaises OSError.");
  if (s.name)
    m.def(
        "name",
        []() -> py::object {
          const char* const name = server().name();
          return name ? py::object{to_str(name)} : py::none();
        },
        "name() -> str or None\n\nThe name that the server was given with --name.");
  if (s.timestamp)
    m.def(
        "timestamp", [] { return to_str(server().timestamp()); },
        "timestamp() -> str\n\nThe time of day as the server's log shows it.");
  if (s.debug_hexdump)
    m.def(
        "debug_hexdump",
        [](const py::buffer& buf, const py::object& prefix, std::uint64_t start) {
          const py::bytes copy = contiguous(buf);
          const std::string_view bytes = copy;
          const std::string p = prefix_text("nbdkit.debug_hexdump: prefix", prefix);
          server().debug_hexdump(bytes.data(), bytes.size(), prefix.is_none() ? nullptr : p.c_str(), start);
        },
        py::arg("buf"), py::arg("prefix") = py::none(), py::arg("start") = 0,
        "debug_hexdump(buf, prefix=None, start=0)\n\nLog bytes in hexadecimal if nbdkit is verbose; start: the offset "
        "to show for the first.");
  if (s.debug_hexdiff)
    m.def(
        "debug_hexdiff",
        [](const py::buffer& buf1, const py::buffer& buf2, const py::object& prefix, std::uint64_t start) {
          const py::bytes first = contiguous(buf1), second = contiguous(buf2);
          const std::string_view one = first, two = second;
          if (one.size() != two.size())
            raise(PyExc_ValueError, "nbdkit.debug_hexdiff: expected two buffers of one size, got " +
                                        std::to_string(one.size()) + " and " + std::to_string(two.size()) + " bytes");
          const std::string p = prefix_text("nbdkit.debug_hexdiff: prefix", prefix);
          server().debug_hexdiff(one.data(), two.data(), one.size(), prefix.is_none() ? nullptr : p.c_str(), start);
        },
        py::arg("buf1"), py::arg("buf2"), py::arg("prefix") = py::none(), py::arg("start") = 0,
        "debug_hexdiff(buf1, buf2, prefix=None, start=0)\n\nLog where two buffers of one size differ, if nbdkit is "
        "verbose.");
}

void define_parsers(py::module_& m) {
  const Server& s = server();
  if (s.parse_size)
    m.def("parse_size", parse_size, py::arg("str"),
          "parse_size(str) -> int\n\nThe bytes that a size such as 512, 4k or 1G stands for.\nRaises ValueError.");
  if (s.parse_bool)
    m.def(
        "parse_bool", parse_bool, py::arg("str"),
        "parse_bool(str) -> bool\n\nWhat true or false, on or off, yes or no, 1 or 0 stands for.\nRaises ValueError.");
  if (s.parse_probability)
    m.def(
        "parse_probability",
        [](const py::object& what, const py::object& string) {
          double result = 0;
          parse(server().parse_probability, "parse_probability", what, string, &result);
          return result;
        },
        py::arg("what"), py::arg("str"),
        "parse_probability(what, str) -> float\n\nThe probability that 0.25, 25%, 1:4 or 1/4 stands for.\n"
        "what: the parameter's name, for the message.\nRaises ValueError.");
  if (s.parse_delay)
    m.def(
        "parse_delay",
        [](const py::object& what, const py::object& string) {
          unsigned sec = 0, nsec = 0;
          parse(server().parse_delay, "parse_delay", what, string, &sec, &nsec);
          return py::make_tuple(sec, nsec);
        },
        py::arg("what"), py::arg("str"),
        "parse_delay(what, str) -> (seconds, nanoseconds)\n\nThe delay that 5, 2.5s, 100ms, 20us or 30ns stands for.\n"
        "what: the parameter's name, for the message.\nRaises ValueError.");
  define_parser(m, "parse_int", &Server::parse_int);
  define_parser(m, "parse_unsigned", &Server::parse_unsigned);
  define_parser(m, "parse_int8_t", &Server::parse_int8_t);
  define_parser(m, "parse_uint8_t", &Server::parse_uint8_t);
  define_parser(m, "parse_int16_t", &Server::parse_int16_t);
  define_parser(m, "parse_uint16_t", &Server::parse_uint16_t);
  define_parser(m, "parse_int32_t", &Server::parse_int32_t);
  define_parser(m, "parse_uint32_t", &Server::parse_uint32_t);
  define_parser(m, "parse_int64_t", &Server::parse_int64_t);
  define_parser(m, "parse_uint64_t", &Server::parse_uint64_t);
}

void define_connection(py::module_& m) {
  const Server& s = server();
  if (s.export_name)
    m.def("export_name", export_name,
          "export_name() -> str\n\nThe export that this connection's client asked for. It can be anything: bytes that "
          "are not UTF-8 arrive as lone surrogates, as in file names.\nRaises RuntimeError outside a connection.");
  if (s.is_tls)
    m.def("is_tls", is_tls,
          "is_tls() -> bool\n\nWhether this connection is encrypted.\nRaises RuntimeError outside a connection.");
  if (s.peer_name)
    m.def("peer_name", peer_name,
          "peer_name() -> str or tuple\n\nThe client's address, in the form of socket.getpeername().\nRaises "
          "RuntimeError where it is not known.");
  const auto define_id = [&m](const char* name, std::int64_t (*Server::*member)(), const char* doc) {
    if (server().*member)
      m.def(
          name, [name, member] { return known(name, (server().*member)()); }, doc);
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
      m.def(
          name, [name, member] { return known(name, (server().*member)()); }, doc);
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

}  // namespace

PYBIND11_MODULE(_nbdkit, m) {
  // The docstrings begin with signatures in our own words.
  py::options options;
  options.disable_function_signatures();
  m.doc() = "The functions of the nbdkit server that this Python runs in.";
  define_basics(m);
  define_parsers(m);
  define_connection(m);
}

PyObject* module_init() { return PyInit__nbdkit(); }

}  // namespace nbdkit_python
