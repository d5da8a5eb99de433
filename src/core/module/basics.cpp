// SPDX-License-Identifier: BSD-3-Clause
// The module's functions for any time: log, errno, sleep, passwords, paths, the server's end.
#include <cerrno>
#include <ctime>
#include <limits>
#include <string_view>

#include "common.hpp"

namespace nbdkit_python::module {
namespace {

void set_error(const py::object& err) {
  if (PyBool_Check(err.ptr()))
    raise(PyExc_TypeError, "nbdkit.set_error: err: expected an int such as errno.ENOSPC, got " + describe(err.ptr()));
  const int value = number("nbdkit.set_error: err", err, 0, 4095);
  if (Call* const call = Call::current())
    call->set_error(value);
  else
    server().debug("nbdkit.set_error: ignored: no callback is running in this thread");
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
  int result = 0;
  {
    const py::gil_scoped_release others_run;
    result = interpreter::serving() ? serving_sleep(s, n) : sleep_alone(s, n);
  }
  if (result == -1) raise_os_error(ESHUTDOWN, "nbdkit.nanosleep: the server or the connection is going away");
}

py::bytes read_password(const py::object& value) {
  const std::string how = text("nbdkit.read_password", value);
  char* password = nullptr;
  int result = 0;
  int err = 0;
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

// A copy, since the server wants contiguous memory and a view can be of every other byte.
py::bytes contiguous(const py::buffer& buffer) {
  auto bytes = py::reinterpret_steal<py::bytes>(PyBytes_FromObject(buffer.ptr()));
  if (!bytes) throw py::error_already_set();
  return bytes;
}

std::string prefix_text(const char* where, const py::object& prefix) {
  return prefix.is_none() ? std::string{} : text(where, prefix);
}

}  // namespace

void define_basics(py::module_& m) {
  m.def(
      "debug", [](const py::object& message) { server().debug(log_text(message.ptr()).c_str()); }, py::arg("message"),
      "debug(message)\n\nLog a message (a str, bytes, or anything that str() takes) if nbdkit is verbose (-v).");
  // Not re-exported: nbdkit has one level that is always seen, and calls all of it errors.
  m.def(
      "_error", [](const py::object& message) { server().error(log_text(message.ptr()).c_str()); }, py::arg("message"),
      "_error(message)\n\nLog a message at any level of verbosity.");
  define_of_call(
      m, "set_error", std::function{set_error}, py::arg("err"),
      "set_error(err)\n\nThe errno that the client gets if this callback goes on to raise an exception; 0 takes it "
      "back.\nRaises TypeError, ValueError.");
  const Server& s = server();
  if (s.shutdown)
    m.def("shutdown", interpreter::shutdown,
          "shutdown()\n\nAsk the server to end, once the requests that it is working on are done.");
  if (s.disconnect)
    define_of_call(
        m, "disconnect", std::function{[](bool force) { server().disconnect(force ? 1 : 0); }}, py::arg("force"),
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
          const py::bytes first = contiguous(buf1);
          const py::bytes second = contiguous(buf2);
          const std::string_view one = first;
          const std::string_view two = second;
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

}  // namespace nbdkit_python::module
