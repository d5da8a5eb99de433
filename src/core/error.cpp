// SPDX-License-Identifier: BSD-3-Clause
// Exception -> message and errno.
#include "nbdkit_python/error.hpp"

#include <cerrno>
#include <string>

#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python {
namespace {

// What an exception without an errno stands for. The first match counts.
int errno_of_class(PyObject* exception) noexcept {
  struct Row {
    PyObject* type;
    int err;
  };
  const Row table[] = {
      {PyExc_MemoryError, ENOMEM},
      {PyExc_NotImplementedError, EOPNOTSUPP},
      {PyExc_PermissionError, EPERM},
  };
  for (const auto& [type, err] : table)
    if (PyErr_GivenExceptionMatches(exception, type) != 0) return err;
  return EIO;
}

// The errno that reaches the client. NBD has few of them, and nbdkit makes EINVAL of the others, which would tell the
// client that it asked wrongly.
int errno_for_client(int err) noexcept {
  switch (err) {
    case EPERM:
    case EROFS:  // nbdkit sends EPERM
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EDQUOT:  // nbdkit sends ENOSPC
    case EFBIG:   // nbdkit sends ENOSPC
    case EOVERFLOW:
    case ESHUTDOWN:
    case EOPNOTSUPP:
#if ENOTSUP != EOPNOTSUPP
    case ENOTSUP:
#endif
      return err;
    case EACCES:
      return EPERM;
    default:
      return EIO;
  }
}

std::string errno_name(int err) {
  const Ref module = Ref::take(PyImport_ImportModule("errno"));
  const Ref names = module ? Ref::take(PyObject_GetAttrString(module.get(), "errorcode")) : Ref{};
  const Ref key = Ref::take(PyLong_FromLong(err));
  PyObject* const name = names && key ? PyDict_GetItemWithError(names.get(), key.get()) : nullptr;
  PyErr_Clear();
  return name ? log_text(name) : "errno " + std::to_string(err);
}

// The exception's errno attribute, or 0 where it is none.
int errno_attribute(PyObject* exception) noexcept {
  const Ref value = Ref::take(PyObject_GetAttrString(exception, "errno"));
  const long err = value && PyLong_Check(value.get()) ? PyLong_AsLong(value.get()) : 0;
  PyErr_Clear();
  return err > 0 && err < 4096 ? static_cast<int>(err) : 0;
}

std::string formatted(PyObject* exception) {
  const Ref module = Ref::take(PyImport_ImportModule("traceback"));
  const Ref lines = module ? Ref::take(PyObject_CallMethod(module.get(), "format_exception", "O", exception)) : Ref{};
  const Ref empty = Ref::take(PyUnicode_FromString(""));
  const Ref text = lines && empty ? Ref::take(PyUnicode_Join(empty.get(), lines.get())) : Ref{};
  if (text) {
    std::string result = log_text(text.get());
    while (result.ends_with('\n')) result.pop_back();
    return result;
  }
  // No memory, or no stack, for a traceback.
  PyErr_Clear();
  return std::string{Py_TYPE(exception)->tp_name} + ": " + log_text(exception);
}

bool is(PyObject* exception, const Ref& type) noexcept {
  return PyObject_TypeCheck(exception, reinterpret_cast<PyTypeObject*>(type.get()));
}

// \x1b: how a log shows a character that a terminal would obey, as Python does.
std::string hexadecimal(unsigned char character) {
  constexpr const char* digits = "0123456789abcdef";
  return {'\\', 'x', digits[character >> 4], digits[character & 15]};
}

// On one line, whatever a client has put into the text.
std::string one_line(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\n')
      result += "\\n";
    else
      result += c;
  }
  return result;
}

// str and its escapes: what a client, a log or a C string cannot hold stays readable.
Ref encoded(PyObject* text) noexcept { return Ref::take(PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace")); }

}  // namespace

Ref take_exception() noexcept {
#if PY_VERSION_HEX >= 0x030C0000
  return Ref::take(PyErr_GetRaisedException());
#else
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (trace != nullptr) PyException_SetTraceback(value, trace);
  Py_XDECREF(type);
  Py_XDECREF(trace);
  return Ref::take(value);
#endif
}

void put_back(Ref exception) noexcept {
#if PY_VERSION_HEX >= 0x030C0000
  PyErr_SetRaisedException(exception.release());
#else
  PyObject* const value = exception.release();
  if (value == nullptr) return PyErr_Clear();
  PyErr_Restore(Py_NewRef(Py_TYPE(value)), value, PyException_GetTraceback(value));
#endif
}

Failure take_raw_failure(int set_error) noexcept {
  const Ref exception = take_exception();
  if (!exception) return {EIO, "failed without an exception"};
  const bool deliberate = is(exception.get(), interpreter::package().error);
  const bool self_explaining = is(exception.get(), interpreter::package().script_error);
  const int own = errno_attribute(exception.get());

  int err = set_error;
  if (deliberate && own != 0) err = own;
  if (err == 0 && own != 0 && PyErr_GivenExceptionMatches(exception.get(), PyExc_OSError) != 0) err = own;
  if (err == 0) err = errno_of_class(exception.get());

  std::string message;
  if (deliberate) {
    const Ref text = Ref::take(PyObject_GetAttrString(exception.get(), "strerror"));
    PyErr_Clear();
    message = one_line(text ? log_text(text.get()) : std::string{}) + " [" + errno_name(err) + "]";
  } else if (self_explaining) {
    message = log_text(exception.get());
  } else {
    message = formatted(exception.get());
  }
  return {err, std::move(message)};
}

Failure take_failure(int set_error) noexcept {
  Failure failure = take_raw_failure(set_error);
  const int sent = errno_for_client(failure.err);
  if (sent != failure.err && failure.err != EACCES)
    failure.message += " (NBD has no " + errno_name(failure.err) + ": the client gets " + errno_name(sent) + ")";
  failure.err = sent;
  return failure;
}

std::string log_text(PyObject* object) noexcept {
  Ref bytes;
  if (PyBytes_Check(object)) {
    const Ref text =
        Ref::take(PyUnicode_DecodeUTF8(PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object), "backslashreplace"));
    if (text) bytes = encoded(text.get());
  } else {
    const Ref text = Ref::take(PyObject_Str(object));
    if (text) bytes = encoded(text.get());
  }
  // Also where it was made: CPython's str() of a UnicodeEncodeError whose place is changed leaves an exception behind.
  PyErr_Clear();
  if (!bytes) return std::string{"<"} + Py_TYPE(object)->tp_name + " that cannot be shown>";
  std::string result;
  const char* const data = PyBytes_AS_STRING(bytes.get());
  for (Py_ssize_t i = 0; i < PyBytes_GET_SIZE(bytes.get()); ++i) {
    const auto byte = static_cast<unsigned char>(data[i]);
    const auto next = static_cast<unsigned char>(data[i + 1]);  // after the last one there is a NUL
    if ((byte < ' ' && byte != '\n' && byte != '\t') || byte == 0x7F) {
      result += hexadecimal(byte);
    } else if (byte == 0xC2 && next < 0xA0) {
      result += hexadecimal(next);
      ++i;
    } else {
      result += data[i];
    }
  }
  return result;
}

std::string describe(PyObject* object) noexcept {
  constexpr Py_ssize_t longest = 80;
  if (object == Py_None) return "None";
  std::string result = Py_TYPE(object)->tp_name;
  // The repr of a very large number, or of an object of the script's, can fail in its turn.
  const Ref whole = Ref::take(PyObject_Repr(object));
  const Ref shown = whole ? Ref::take(PyUnicode_Substring(whole.get(), 0, longest)) : Ref{};
  PyErr_Clear();
  if (shown) (result += " ") += log_text(shown.get());
  if (shown && PyUnicode_GET_LENGTH(whole.get()) > longest) result += "...";
  return result;
}

void wrong_answer(const char* expected, PyObject* got) noexcept {
  script_error(std::string{"expected "} + expected + ", got " + describe(got));
}

void script_error(const std::string& text) noexcept {
  const Ref message = Ref::take(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
  if (message) PyErr_SetObject(interpreter::package().script_error.get(), message.get());
}

}  // namespace nbdkit_python
