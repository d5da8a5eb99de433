// SPDX-License-Identifier: BSD-3-Clause
// Dirent: an entry of a folder, GlusterFS's or a script's own.
#include "nbdkit_python/error.hpp"
#include "plain.hpp"
#include "view.hpp"

namespace nbdkit_python::gluster {

namespace {

DirentFacts facts_of(const View* view) noexcept {
  DirentFacts facts;
  graph_dirent(view->held.value.dirents, &facts);
  return facts;
}

Ref name(const View* view) noexcept { return text_or_none(facts_of(view).name); }
Ref text(const View* view) noexcept { return quoted(name(view)); }
Ref ino(const View* view) noexcept { return Ref::take(PyLong_FromUnsignedLongLong(facts_of(view).ino)); }
Ref offset(const View* view) noexcept { return Ref::take(PyLong_FromUnsignedLongLong(facts_of(view).offset)); }
Ref type(const View* view) noexcept { return Ref::take(PyLong_FromUnsignedLong(facts_of(view).type)); }
Ref stat(const View* view) noexcept { return make_iatt(*facts_of(view).stat); }
Ref dict(const View* view) noexcept { return make_inner_view(view, kind_dict, {.dict = facts_of(view).dict}); }
Ref inode(const View* view) noexcept { return make_inner_view(view, kind_inode, {.inode = facts_of(view).inode}); }

PyGetSetDef getters[] = {
    {"name", getter<name>, nullptr, "The entry's name.", nullptr},
    {"ino", getter<ino>, nullptr, "Its inode number.", nullptr},
    {"offset", getter<offset>, nullptr, "Where reading goes on after it.", nullptr},
    {"type", getter<type>, nullptr, "What it is: 8 a file, 4 a folder, …, as readdir(3) has it.", nullptr},
    {"stat", getter<stat>, nullptr, "Its Iatt; filled in by readdirp.", nullptr},
    {"dict", getter<dict>, nullptr, "Its Dict, or None.", nullptr},
    {"inode", getter<inode>, nullptr, "Its Inode, or None.", nullptr},
    {}};

// An int of this size, for PyArg_Parse. 0: Python's error indicator is set.
template <typename Int>
int unsigned_number(PyObject* object, void* number) noexcept {
  const unsigned long long value = PyLong_Check(object) ? PyLong_AsUnsignedLongLong(object) : ~0ULL;
  *static_cast<Int*>(number) = static_cast<Int>(value);
  if (PyLong_Check(object) && PyErr_Occurred() == nullptr && static_cast<Int>(value) == value) return 1;
  PyErr_Clear();
  PyErr_Format(PyExc_TypeError, "Dirent: expected an unsigned int of %zu bits, got %s", sizeof(Int) * 8,
               describe(object).c_str());
  return 0;
}

PyObject* construct(PyTypeObject* type, PyObject* arguments, PyObject* keywords) noexcept {
  static const char* const names[] = {"name", "ino", "offset", "type", "stat", nullptr};
  PyObject* name = nullptr;
  PyObject* stat = Py_None;
  std::uint64_t ino = 0, offset = 0;
  std::uint32_t d_type = 0;
  if (PyArg_ParseTupleAndKeywords(arguments, keywords, "O&|O&O&O&O:Dirent", const_cast<char**>(names),
                                  PyUnicode_FSConverter, &name, unsigned_number<std::uint64_t>, &ino,
                                  unsigned_number<std::uint64_t>, &offset, unsigned_number<std::uint32_t>, &d_type,
                                  &stat) == 0)
    return nullptr;
  const Ref owned = Ref::take(name);
  if (stat != Py_None && !PyObject_TypeCheck(stat, types.iatt)) {
    PyErr_Format(PyExc_TypeError, "Dirent: stat: expected an Iatt, got %s", describe(stat).c_str());
    return nullptr;
  }
  DirentFacts facts{PyBytes_AS_STRING(name), ino, offset, d_type, nullptr, nullptr, nullptr};
  if (stat != Py_None) facts.stat = const_cast<struct iatt*>(&iatt_of(stat));
  Ref self = allocate(type);
  if (!self) return nullptr;
  Held& held = view_of(self.get())->held;
  held = {kind_dirents, {.dirents = graph_dirent_new(&facts)}};
  return held.value.dirents != nullptr ? self.release() : PyErr_NoMemory();
}

}  // namespace

PyTypeObject* make_dirent_type() noexcept {
  return make_view_type("glusterfs.Dirent", "Dirent(name, ino=0, offset=0, type=0, stat=None)\n\nAn entry of a folder.",
                        0, {{Py_tp_getset, getters}, {Py_tp_new, slot(construct)}, {Py_tp_repr, slot(shown<text>)}});
}

}  // namespace nbdkit_python::gluster
