// SPDX-License-Identifier: BSD-3-Clause
// `_glusterfs`: what the package `glusterfs` rests on. Its types, constants, and the table of file operations.
#include "module.hpp"

extern "C" {
#include <glusterfs/glusterfs-fops.h>
#include <glusterfs/iatt.h>
}

#include "fields.hpp"
#include "next.hpp"
#include "plain.hpp"
#include "view.hpp"

namespace nbdkit_python::gluster {

Types types;

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
Ref names(Fields fields) noexcept {
  const Ref list = Ref::take(PyList_New(0));
  for (const Field& field : fields) {
    if (is_hidden(field)) continue;
    const Ref name = Ref::take(PyUnicode_FromString(field.name));
    if (!list || !name || PyList_Append(list.get(), name.get()) == -1) return {};
  }
  return list ? Ref::take(PyList_AsTuple(list.get())) : Ref{};
}

// {name: (parameters, fields of the answer)}, in the order of the table.
Ref fops() noexcept {
  Ref dict = Ref::take(PyDict_New());
  for (int fop = 0; fop < fop_count; ++fop) {
    const Ref arguments = names(arguments_of(fop));
    const Ref answer = names(answer_of(fop));
    const Ref row = arguments && answer ? Ref::take(PyTuple_Pack(2, arguments.get(), answer.get())) : Ref{};
    if (!dict || !row || PyDict_SetItemString(dict.get(), graph_fops[fop].name, row.get()) == -1) return {};
  }
  return dict;
}

constexpr struct {
  const char* name;
  PyTypeObject* Types::*type;
  PyTypeObject* (*make)() noexcept;
} shown_types[] = {
    {"Loc", &Types::loc, make_loc_type},
    {"Fd", &Types::fd, make_fd_type},
    {"Inode", &Types::inode, make_inode_type},
    {"Locks", &Types::locks, make_locks_type},
    {"Dict", &Types::dict, make_dict_type},
    {"Data", &Types::data, make_data_type},
    {"Dirent", &Types::dirent, make_dirent_type},
    {"Iatt", &Types::iatt, make_iatt_type},
    {"Flock", &Types::flock, make_flock_type},
    {"Lease", &Types::lease, make_lease_type},
    {"Statvfs", &Types::statvfs, make_statvfs_type},
    {"Frame", &Types::frame, make_frame_type},
    {"Next", &Types::next, make_next_type},
    {"AsyncNext", &Types::async_next, make_async_next_type},
    {"Child", &Types::child, make_child_type},
    {"Translator", &Types::translator, make_translator_type},
};

#define CONSTANT(name) \
  { #name, name }
constexpr Constant constants[] = {
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
    CONSTANT(GF_XATTROP_ADD_ARRAY_WITH_DEFAULT),
    CONSTANT(GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT),
    CONSTANT(GF_SEEK_DATA),
    CONSTANT(GF_SEEK_HOLE),
};

bool fill(PyObject* module) noexcept {
  for (const auto& [name, type, make] : shown_types) {
    types.*type = make();
    if (PyModule_AddObjectRef(module, name, object(types.*type)) == -1) return false;
  }
  for (const auto& [name, value] : constants)
    if (PyModule_AddIntConstant(module, name, value) == -1) return false;
  for (const Constant* one = graph_constants; one->name != nullptr; ++one)
    if (PyModule_AddIntConstant(module, one->name, one->value) == -1) return false;
  const Ref table = fops();
  return PyModule_AddObjectRef(module, "FOPS", table.get()) == 0;
}

}  // namespace

bool make_module() noexcept {
  const Ref module = Ref::take(PyModule_Create(&definition));
  if (!module || !fill(module.get()) ||
      PyDict_SetItemString(PyImport_GetModuleDict(), "_glusterfs", module.get()) == -1)
    return false;
  const Ref package = Ref::take(PyImport_ImportModule("glusterfs"));
  const Ref answers = Ref::take(PyImport_ImportModule("glusterfs.answer"));
  if (!package || !answers) return false;
  types.gfid = reinterpret_cast<PyTypeObject*>(PyObject_GetAttrString(package.get(), "Gfid"));
  types.error = PyObject_GetAttrString(package.get(), "Error");
  types.expired = PyObject_GetAttrString(package.get(), "Expired");
  types.answers = PyObject_GetAttrString(answers.get(), "_TYPES");
  return types.gfid != nullptr && types.error != nullptr && types.expired != nullptr && types.answers != nullptr;
}

}  // namespace nbdkit_python::gluster
