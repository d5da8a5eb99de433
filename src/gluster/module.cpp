// SPDX-License-Identifier: BSD-3-Clause
// `_glusterfs`: what the package `glusterfs` rests on. Its types, constants, and the table of file operations.
#include "module.hpp"

#include "door.hpp"

extern "C" {
#include <glusterfs/glusterfs-fops.h>
#include <glusterfs/iatt.h>
}

namespace nbdkit_python::gluster {
namespace {

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_glusterfs",
                          "What the package glusterfs rests on.",
                          -1,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

// The names of the fields that Python has.
Ref names(const Field* fields, int count) noexcept {
  const Ref list = Ref::take(PyList_New(0));
  for (int i = 0; list && i < count; ++i) {
    if (fields[i].kind == kind_count || fields[i].kind == kind_iobref) continue;
    const Ref name = Ref::take(PyUnicode_FromString(fields[i].name));
    if (!name || PyList_Append(list.get(), name.get()) == -1) return {};
  }
  return list ? Ref::take(PyList_AsTuple(list.get())) : Ref{};
}

// {name: (parameters, fields of the answer)}, in the order of the table.
Ref fops() noexcept {
  Ref dict = Ref::take(PyDict_New());
  for (const Fop& fop : graph_fops) {
    const Ref arguments = names(fop.arguments, fop.argument_count);
    const Ref answer = names(fop.answer, fop.answer_count);
    const Ref row = arguments && answer ? Ref::take(PyTuple_Pack(2, arguments.get(), answer.get())) : Ref{};
    if (!dict || !row || PyDict_SetItemString(dict.get(), fop.name, row.get()) == -1) return {};
  }
  return dict;
}

bool add(PyObject* module, const char* name, PyTypeObject* type) noexcept {
  return PyModule_AddObjectRef(module, name, object(type)) == 0;
}

#define CONSTANT(name) \
  { #name, name }
constexpr struct {
  const char* name;
  long value;
} constants[] = {
    CONSTANT(IA_INVAL),
    CONSTANT(IA_IFREG),
    CONSTANT(IA_IFDIR),
    CONSTANT(IA_IFLNK),
    CONSTANT(IA_IFBLK),
    CONSTANT(IA_IFCHR),
    CONSTANT(IA_IFIFO),
    CONSTANT(IA_IFSOCK),
    CONSTANT(ENTRYLK_LOCK),
    CONSTANT(ENTRYLK_UNLOCK),
    CONSTANT(ENTRYLK_LOCK_NB),
    CONSTANT(ENTRYLK_RDLCK),
    CONSTANT(ENTRYLK_WRLCK),
    CONSTANT(GF_XATTROP_ADD_ARRAY),
    CONSTANT(GF_XATTROP_ADD_ARRAY64),
    CONSTANT(GF_XATTROP_OR_ARRAY),
    CONSTANT(GF_XATTROP_AND_ARRAY),
    CONSTANT(GF_XATTROP_GET_AND_SET),
    CONSTANT(GF_SEEK_DATA),
    CONSTANT(GF_SEEK_HOLE),
};

bool fill(PyObject* module) noexcept {
  const bool typed =
      add(module, "Loc", types.loc) && add(module, "Fd", types.fd) && add(module, "Inode", types.inode) &&
      add(module, "Dict", types.dict) && add(module, "Data", types.data) && add(module, "Dirent", types.dirent) &&
      add(module, "Locks", types.locks) && add(module, "Iatt", types.iatt) && add(module, "Flock", types.flock) &&
      add(module, "Lease", types.lease) && add(module, "Statvfs", types.statvfs) && add(module, "Frame", types.frame) &&
      add(module, "Next", types.next) && add(module, "Child", types.child) &&
      add(module, "Translator", types.translator);
  const Ref table = typed ? fops() : Ref{};
  if (!table || PyModule_AddObjectRef(module, "FOPS", table.get()) == -1) return false;
  for (const auto& [name, value] : constants)
    if (PyModule_AddIntConstant(module, name, value) == -1) return false;
  return true;
}

}  // namespace

bool make_module() noexcept {
  if (!make_view_types() || !make_plain_types() || !make_request_types()) return false;
  const Ref module = Ref::take(PyModule_Create(&definition));
  if (!module || !fill(module.get()) ||
      PyDict_SetItemString(PyImport_GetModuleDict(), "_glusterfs", module.get()) == -1)
    return false;
  const Ref package = Ref::take(PyImport_ImportModule("glusterfs"));
  const Ref answers = Ref::take(PyImport_ImportModule("glusterfs.answer"));
  if (!package || !answers) return false;
  types.error = PyObject_GetAttrString(package.get(), "Error");
  types.expired = PyObject_GetAttrString(package.get(), "Expired");
  types.answers = PyObject_GetAttrString(answers.get(), "_TYPES");
  return types.error != nullptr && types.expired != nullptr && types.answers != nullptr;
}

}  // namespace nbdkit_python::gluster
