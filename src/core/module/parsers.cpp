// SPDX-License-Identifier: BSD-3-Clause
// The module's functions for parameters: what a string stands for, as all of nbdkit's plugins read it.
#include <limits>

#include "common.hpp"

namespace nbdkit_python::module {
namespace {

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

}  // namespace

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
          unsigned sec = 0;
          unsigned nsec = 0;
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

}  // namespace nbdkit_python::module
