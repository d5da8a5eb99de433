// SPDX-License-Identifier: BSD-3-Clause
// A file operation's answer, to and from what scripts have for it.
#include "answer.hpp"

#include <cerrno>
#include <string>

#include "door.hpp"
#include "nbdkit_python/error.hpp"

namespace nbdkit_python::gluster {
namespace {

constexpr int max_errno = 4095;  // Linux's

PyTypeObject* answer_type(int fop) noexcept {
  return reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(types.answers, fop));
}

// Whether it is an answer of this file operation's, whole.
bool is_answer(PyObject* object, int fop) noexcept {
  return PyObject_TypeCheck(object, answer_type(fop)) &&
         static_cast<std::size_t>(PyTuple_GET_SIZE(object)) == visible(answer_of(fop)) + 1;
}

// Its fields without the last, the op_ret.
std::span<PyObject* const> fields_of(PyObject* answer) noexcept {
  return {&PyTuple_GET_ITEM(answer, 0), static_cast<std::size_t>(PyTuple_GET_SIZE(answer)) - 1};
}

PyObject* op_ret_of(PyObject* answer) noexcept { return PyTuple_GET_ITEM(answer, PyTuple_GET_SIZE(answer) - 1); }

// The op_ret: the number of bytes or entries in the answer, or what the script says. False: Python's error indicator is
// set.
bool take_op_ret(PyObject* answer, int fop, const Outgoing& outgoing, std::int32_t* ret) noexcept {
  if (outgoing.length() >= 0) {
    *ret = static_cast<std::int32_t>(outgoing.length());
    return true;
  }
  PyObject* const said = op_ret_of(answer);
  long value = -1;
  if (said == Py_None) value = 0;
  if (PyLong_Check(said)) value = PyLong_AsLong(said);
  PyErr_Clear();
  *ret = static_cast<std::int32_t>(value);
  if (value >= 0 && *ret == value) return true;
  PyErr_Format(PyExc_TypeError, "%s: ret: expected an int from 0 to 2147483647 or None, got %s", graph_fops[fop].name,
               describe(said).c_str());
  return false;
}

}  // namespace

int error_number(int err) noexcept { return err > 0 && err <= max_errno ? err : EIO; }

Ref make_answer(int fop, std::span<const Ref> fields, std::int32_t ret) noexcept {
  const auto count = static_cast<Py_ssize_t>(fields.size());
  PyTypeObject* const type = answer_type(fop);
  Ref answer = Ref::take(type->tp_alloc(type, count + 1));
  Ref op_ret = Ref::take(PyLong_FromLong(ret));
  if (!answer || !op_ret) return {};
  Py_ssize_t i = 0;
  for (const Ref& field : fields) PyTuple_SET_ITEM(answer.get(), i++, Ref::borrow(field.get()).release());
  PyTuple_SET_ITEM(answer.get(), count, op_ret.release());
  return answer;
}

bool take_answer(PyObject* returned, int fop, Outgoing* outgoing, std::int32_t* ret) noexcept {
  if (is_answer(returned, fop))
    return outgoing->answer(fields_of(returned), true) && take_op_ret(returned, fop, *outgoing, ret);
  const char* const name = graph_fops[fop].name;
  const std::string expected =
      std::string{"an answer, such as what next."} + name + "() returns, or glusterfs.answer." + name + "(...)";
  wrong_answer(expected.c_str(), returned);
  return false;
}

PyObject* raise_error(int err, PyObject* answer) noexcept {
  const Ref error = Ref::take(PyObject_CallFunction(types.error, "iOO", error_number(err), Py_None, answer));
  if (error) PyErr_SetObject(types.error, error.get());
  return nullptr;
}

int take_error(PyObject* error, int fop, Outgoing* outgoing, bool* with_answer) noexcept {
  const Ref number = Ref::take(PyObject_GetAttrString(error, "errno"));
  const long err = number && PyLong_Check(number.get()) ? PyLong_AsLong(number.get()) : EIO;
  PyErr_Clear();
  const Ref answer = Ref::take(PyObject_GetAttrString(error, "answer"));
  *with_answer = answer && is_answer(answer.get(), fop) && outgoing->answer(fields_of(answer.get()), false);
  PyErr_Clear();
  return error_number(static_cast<int>(err));
}

}  // namespace nbdkit_python::gluster
