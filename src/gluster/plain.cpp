// SPDX-License-Identifier: BSD-3-Clause
// Python's copies of GlusterFS's plain structures: Iatt, Flock, Lease, Statvfs. They are the script's own, to keep and
// to change.
#include "plain.hpp"

#include <sys/statvfs.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>

extern "C" {
#include <glusterfs/glusterfs-fops.h>
#include <glusterfs/iatt.h>
}

#include "fields.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/type.hpp"
#include "view.hpp"

namespace nbdkit_python::gluster {

static_assert(sizeof(struct iatt) <= 24 * sizeof(std::uint64_t), "Outgoing has room for an iatt");

namespace {

template <typename Struct>
struct Plain {
  PyObject_HEAD Struct data;
};

using Iatt = Plain<struct iatt>;
using Flock = Plain<struct gf_flock*>;
using Lease = Plain<struct gf_lease>;
using FileSystem = struct statvfs;
using Statvfs = Plain<FileSystem>;

template <typename Struct>
Struct& data_of(PyObject* self) noexcept {
  return reinterpret_cast<Plain<Struct>*>(self)->data;
}

template <typename Struct>
Ref make_plain(PyTypeObject* type, const Struct& data) noexcept {
  Ref self = allocate(type);
  if (self) data_of<Struct>(self.get()) = data;
  return self;
}

void dealloc(PyObject* self) noexcept {
  if (Py_TYPE(self) == types.flock) drop(kind_flock, {.flock = data_of<struct gf_flock*>(self)});
  deallocate(self);
}

PyObject* copied(PyObject* self, PyObject*) noexcept {
  if (Py_TYPE(self) == types.flock) return make_flock(data_of<struct gf_flock*>(self)).release();
  PyTypeObject* const type = Py_TYPE(self);
  Ref copy = allocate(type);
  if (copy)
    std::memcpy(reinterpret_cast<char*>(copy.get()) + sizeof(PyObject),
                reinterpret_cast<const char*>(self) + sizeof(PyObject),
                static_cast<std::size_t>(type->tp_basicsize) - sizeof(PyObject));
  return copy.release();
}

// TYPE(name=value, …): a new one, whose attributes are these.
PyObject* construct(PyTypeObject* type, PyObject* arguments, PyObject* keywords) noexcept {
  if (PyTuple_GET_SIZE(arguments) != 0) {
    PyErr_Format(PyExc_TypeError, "%s: expected its fields by their names", type->tp_name);
    return nullptr;
  }
  Ref self = allocate(type);
  if (!self) return nullptr;
  if (type == types.flock) {
    data_of<struct gf_flock*>(self.get()) = graph_flock_new();
    if (data_of<struct gf_flock*>(self.get()) == nullptr) return PyErr_NoMemory();
  }
  PyObject *key = nullptr, *value = nullptr;
  for (Py_ssize_t at = 0; keywords != nullptr && PyDict_Next(keywords, &at, &key, &value) != 0;)
    if (PyObject_SetAttr(self.get(), key, value) == -1) return nullptr;
  return self.release();
}

// What an attribute has been set to, for the error.
std::string got(PyObject* value) { return value != nullptr ? describe(value) : "nothing"; }

template <typename Int>
PyObject* from_number(Int number) noexcept {
  if constexpr (std::is_signed_v<Int>)
    return PyLong_FromLongLong(number);
  else
    return PyLong_FromUnsignedLongLong(number);
}

// The number if it fits a field of this type; through a wider one of the same sign. Empty: Python's error indicator is
// set.
template <typename Int>
std::optional<Int> to_number(PyObject* self, PyObject* value, void* name) noexcept {
  using Wide = std::conditional_t<std::is_signed_v<Int>, long long, unsigned long long>;
  if (value != nullptr && PyLong_Check(value)) {
    Wide number = 0;
    if constexpr (std::is_signed_v<Int>)
      number = PyLong_AsLongLong(value);
    else
      number = PyLong_AsUnsignedLongLong(value);
    if (PyErr_Occurred() == nullptr && static_cast<Wide>(static_cast<Int>(number)) == number)
      return static_cast<Int>(number);
    PyErr_Clear();
  }
  PyErr_Format(PyExc_TypeError, "%s.%s: expected %s int of %zu bits, got %s", Py_TYPE(self)->tp_name,
               static_cast<const char*>(name), std::is_signed_v<Int> ? "an" : "an unsigned", sizeof(Int) * 8,
               got(value).c_str());
  return {};
}

// A field of an unsigned or signed integer type.
template <typename Struct, typename Int, Int Struct::*field>
struct Number {
  static PyObject* get(PyObject* self, void*) noexcept { return from_number(data_of<Struct>(self).*field); }
  static int set(PyObject* self, PyObject* value, void* name) noexcept {
    const auto number = to_number<Int>(self, value, name);
    if (!number) return -1;
    data_of<Struct>(self).*field = *number;
    return 0;
  }
};

#define NUMBER(Struct, member, name, doc)                                                            \
  {                                                                                                  \
    name, Number<Struct, decltype(Struct::member), &Struct::member>::get,                            \
        Number<Struct, decltype(Struct::member), &Struct::member>::set, doc, const_cast<char*>(name) \
  }

// iatt

PyObject* get_mode(PyObject* self, void*) noexcept {
  const auto& iatt = data_of<struct iatt>(self);
  return PyLong_FromUnsignedLong(st_mode_from_ia(iatt.ia_prot, iatt.ia_type));
}

int set_mode(PyObject* self, PyObject* value, void*) noexcept {
  const unsigned long mode = value != nullptr && PyLong_Check(value) ? PyLong_AsUnsignedLong(value) : ~0UL;
  if (mode > 0xFFFF) {
    PyErr_Clear();
    PyErr_Format(PyExc_TypeError, "glusterfs.Iatt.mode: expected an int from 0 to 0o177777, got %s",
                 got(value).c_str());
    return -1;
  }
  auto& iatt = data_of<struct iatt>(self);
  iatt.ia_prot = ia_prot_from_st_mode(static_cast<mode_t>(mode));
  iatt.ia_type = ia_type_from_st_mode(static_cast<mode_t>(mode));
  return 0;
}

PyObject* get_type(PyObject* self, void*) noexcept { return PyLong_FromLong(data_of<struct iatt>(self).ia_type); }

PyObject* get_gfid(PyObject* self, void*) noexcept { return gfid_text(data_of<struct iatt>(self).ia_gfid).release(); }

int set_gfid(PyObject* self, PyObject* value, void*) noexcept {
  std::uint8_t gfid[gfid_size] = {};
  if (parse_gfid(value, gfid)) {
    std::memcpy(data_of<struct iatt>(self).ia_gfid, gfid, sizeof gfid);
    return 0;
  }
  PyErr_Format(PyExc_TypeError, "glusterfs.Iatt.gfid: expected a str as 01234567-89ab-cdef-0123-456789abcdef, got %s",
               got(value).c_str());
  return -1;
}

PyGetSetDef iatt_fields[] = {
    NUMBER(iatt, ia_size, "size", "Its size in bytes."),
    {"mode", get_mode, set_mode, "Its type and permissions, as os.stat_result.st_mode has them.", nullptr},
    {"type", get_type, nullptr, "Its type: glusterfs.IA_IFREG and so on; mode sets it.", nullptr},
    {"gfid", get_gfid, set_gfid, "Its gfid, a str.", nullptr},
    NUMBER(iatt, ia_ino, "ino", "Its inode number."),
    NUMBER(iatt, ia_dev, "dev", "The device that it is on."),
    NUMBER(iatt, ia_rdev, "rdev", "The device that it is."),
    NUMBER(iatt, ia_nlink, "nlink", "How many names it has."),
    NUMBER(iatt, ia_uid, "uid", "Its owner."),
    NUMBER(iatt, ia_gid, "gid", "Its group."),
    NUMBER(iatt, ia_blksize, "blksize", "The preferred size of a read or write, in bytes."),
    NUMBER(iatt, ia_blocks, "blocks", "The room that it takes, in 512 bytes."),
    NUMBER(iatt, ia_atime, "atime", "When it was read, in seconds since 1970."),
    NUMBER(iatt, ia_atime_nsec, "atime_nsec", "The nanoseconds of atime."),
    NUMBER(iatt, ia_mtime, "mtime", "When it was written, in seconds since 1970."),
    NUMBER(iatt, ia_mtime_nsec, "mtime_nsec", "The nanoseconds of mtime."),
    NUMBER(iatt, ia_ctime, "ctime", "When it was changed, in seconds since 1970."),
    NUMBER(iatt, ia_ctime_nsec, "ctime_nsec", "The nanoseconds of ctime."),
    NUMBER(iatt, ia_btime, "btime", "When it was made, in seconds since 1970."),
    NUMBER(iatt, ia_btime_nsec, "btime_nsec", "The nanoseconds of btime."),
    NUMBER(iatt, ia_flags, "flags", "Which of the fields are known; 0 from most translators."),
    NUMBER(iatt, ia_attributes, "attributes", "Its attributes, as statx(2) has them."),
    {}};

PyObject* iatt_text(PyObject* self) noexcept {
  const auto& iatt = data_of<struct iatt>(self);
  const Ref gfid = gfid_text(iatt.ia_gfid);
  std::array<char, 64> rest{};
  std::snprintf(rest.data(), rest.size(), "mode 0%o, size %llu", st_mode_from_ia(iatt.ia_prot, iatt.ia_type),
                static_cast<unsigned long long>(iatt.ia_size));
  return gfid ? PyUnicode_FromFormat("<glusterfs.Iatt %U, %s>", gfid.get(), rest.data()) : nullptr;
}

// flock, through the boundary: its header is not for C++

FlockFacts facts_of(PyObject* self) noexcept {
  FlockFacts facts;
  graph_flock(data_of<struct gf_flock*>(self), &facts);
  return facts;
}

template <typename Int, Int FlockFacts::*field>
struct FlockNumber {
  static PyObject* get(PyObject* self, void*) noexcept { return from_number(facts_of(self).*field); }
  static int set(PyObject* self, PyObject* value, void* name) noexcept {
    const auto number = to_number<Int>(self, value, name);
    if (!number) return -1;
    FlockFacts facts = facts_of(self);
    facts.*field = *number;
    graph_set_flock(data_of<struct gf_flock*>(self), &facts);
    return 0;
  }
};

#define FLOCK(Type, field, doc)                                                                                \
  {                                                                                                            \
#field, FlockNumber < Type, &FlockFacts::field> ::get, FlockNumber < Type, &FlockFacts::field> ::set, doc, \
        const_cast < char*>(#field)                                                                            \
  }

PyObject* get_owner(PyObject* self, void*) noexcept {
  const FlockFacts facts = facts_of(self);
  return PyBytes_FromStringAndSize(facts.owner, static_cast<Py_ssize_t>(facts.owner_size));
}

PyGetSetDef flock_fields[] = {FLOCK(int, type, "0 for reading, 1 for writing, 2 to unlock: fcntl.F_RDLCK and so on."),
                              FLOCK(int, whence, "What start counts from: os.SEEK_SET and so on."),
                              FLOCK(std::int64_t, start, "Where the locked range begins, in bytes."),
                              FLOCK(std::int64_t, length, "Its length in bytes; 0: to the end."),
                              FLOCK(int, pid, "The process that has the lock."),
                              {"owner", get_owner, nullptr, "Who has the lock, bytes.", nullptr},
                              {}};

// lease

template <typename Enum, Enum gf_lease::*field>
PyObject* get_enum(PyObject* self, void*) noexcept {
  return PyLong_FromLong(data_of<struct gf_lease>(self).*field);
}

template <typename Enum, Enum gf_lease::*field>
int set_enum(PyObject* self, PyObject* value, void* name) noexcept {
  const auto number = to_number<std::uint8_t>(self, value, name);
  if (!number) return -1;
  data_of<struct gf_lease>(self).*field = static_cast<Enum>(*number);
  return 0;
}

#define ENUM(Enum, member, name, doc) \
  { name, get_enum<Enum, &gf_lease::member>, set_enum<Enum, &gf_lease::member>, doc, const_cast<char*>(name) }

PyObject* get_lease_id(PyObject* self, void*) noexcept {
  const auto& lease = data_of<struct gf_lease>(self);
  return PyBytes_FromStringAndSize(lease.lease_id, sizeof lease.lease_id);
}

int set_lease_id(PyObject* self, PyObject* value, void*) noexcept {
  constexpr std::size_t size = sizeof gf_lease::lease_id;
  if (value != nullptr && PyBytes_Check(value) && PyBytes_GET_SIZE(value) == size) {
    std::memcpy(data_of<struct gf_lease>(self).lease_id, PyBytes_AS_STRING(value), size);
    return 0;
  }
  PyErr_Format(PyExc_TypeError, "glusterfs.Lease.id: expected %zu bytes, got %s", size,
               got(value).c_str());
  return -1;
}

PyGetSetDef lease_fields[] = {ENUM(gf_lease_cmds_t, cmd, "cmd", "1 get, 2 set, 3 unlock."),
                              ENUM(gf_lease_types_t, lease_type, "type", "1 for reading, 2 for writing."),
                              {"id", get_lease_id, set_lease_id, "Whose lease it is: 16 bytes.", nullptr},
                              NUMBER(gf_lease, lease_flags, "flags", "Flags of the lease."),
                              {}};

PyGetSetDef statvfs_fields[] = {NUMBER(FileSystem, f_bsize, "bsize", "The size of a block, in bytes."),
                                NUMBER(FileSystem, f_frsize, "frsize", "The size of what blocks counts, in bytes."),
                                NUMBER(FileSystem, f_blocks, "blocks", "How many blocks there are."),
                                NUMBER(FileSystem, f_bfree, "bfree", "How many of them are free."),
                                NUMBER(FileSystem, f_bavail, "bavail", "How many of them are free for users."),
                                NUMBER(FileSystem, f_files, "files", "How many inodes there are."),
                                NUMBER(FileSystem, f_ffree, "ffree", "How many of them are free."),
                                NUMBER(FileSystem, f_favail, "favail", "How many of them are free for users."),
                                NUMBER(FileSystem, f_fsid, "fsid", "The file system's id."),
                                NUMBER(FileSystem, f_flag, "flag", "How it is mounted."),
                                NUMBER(FileSystem, f_namemax, "namemax", "The longest name, in bytes."),
                                {}};

PyMethodDef methods[] = {{"__copy__", copied, METH_NOARGS, "A copy of it."}, {}};

PyTypeObject* make_plain_type(const char* name, const char* doc, std::size_t size,
                              std::vector<PyType_Slot> slots) noexcept {
  slots.insert(slots.end(), {{Py_tp_dealloc, slot(dealloc)}, {Py_tp_new, slot(construct)}, {Py_tp_methods, methods}});
  return make_type(name, doc, size, 0, std::move(slots));
}

}  // namespace

PyTypeObject* make_iatt_type() noexcept {
  return make_plain_type("glusterfs.Iatt", "Iatt(**fields)\n\nWhat is known of an inode, as stat(2) has it.",
                         sizeof(Iatt), {{Py_tp_getset, iatt_fields}, {Py_tp_repr, slot(iatt_text)}});
}

PyTypeObject* make_flock_type() noexcept {
  return make_plain_type("glusterfs.Flock", "Flock(**fields)\n\nA lock of a range.", sizeof(Flock),
                         {{Py_tp_getset, flock_fields}});
}

PyTypeObject* make_lease_type() noexcept {
  return make_plain_type("glusterfs.Lease", "Lease(**fields)\n\nA lease.", sizeof(Lease),
                         {{Py_tp_getset, lease_fields}});
}

PyTypeObject* make_statvfs_type() noexcept {
  return make_plain_type("glusterfs.Statvfs",
                         "Statvfs(**fields)\n\nWhat is known of a file system, as statvfs(3) has it.", sizeof(Statvfs),
                         {{Py_tp_getset, statvfs_fields}});
}

Ref make_iatt(const struct iatt& iatt) noexcept { return make_plain(types.iatt, iatt); }
const struct iatt& iatt_of(PyObject* iatt) noexcept { return data_of<struct iatt>(iatt); }

Ref make_flock(const struct gf_flock* flock) noexcept {
  Value value;
  value.flock = const_cast<struct gf_flock*>(flock);
  if (!hold(kind_flock, &value)) return PyErr_NoMemory(), Ref{};
  Ref self = make_plain(types.flock, value.flock);
  if (!self) drop(kind_flock, value);
  return self;
}

struct gf_flock* flock_of(PyObject* flock) noexcept {
  return data_of<struct gf_flock*>(flock);
}
Ref make_lease(const struct gf_lease& lease) noexcept { return make_plain(types.lease, lease); }
struct gf_lease* lease_of(PyObject* lease) noexcept {
  return &data_of<struct gf_lease>(lease);
}
Ref make_statvfs(const struct statvfs& statvfs) noexcept { return make_plain(types.statvfs, statvfs); }
struct statvfs* statvfs_of(PyObject* statvfs) noexcept {
  return &data_of<struct statvfs>(statvfs);
}

}  // namespace nbdkit_python::gluster
