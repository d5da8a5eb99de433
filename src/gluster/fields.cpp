// SPDX-License-Identifier: BSD-3-Clause
// The fields of a file operation, from GlusterFS's values to Python's objects and back.
#include <algorithm>
#include <climits>
#include <cstring>

extern "C" {
#include <glusterfs/glusterfs-fops.h>
#include <glusterfs/iatt.h>
}

#include "door.hpp"
#include "nbdkit_python/error.hpp"

namespace nbdkit_python::gluster {

namespace {

// A vector's count and iobref come and go with it.
bool is_hidden(Kind kind) noexcept { return kind == kind_count || kind == kind_iobref; }

std::size_t place(std::span<const Field> fields, Kind kind) noexcept {
  const auto found = std::ranges::find(fields, kind, &Field::kind);
  return static_cast<std::size_t>(found - fields.begin());
}

bool wrong(const std::string& where, const char* expected, PyObject* got) noexcept {
  PyErr_Format(PyExc_TypeError, "%s: expected %s, got %s", where.c_str(), expected, describe(got).c_str());
  return false;
}

// The entries of a folder as a list, each a view of its own; they are taken from the values.
Ref dirent_list(Frame* frame, gf_dirent_t* head) noexcept {
  Ref list = Ref::take(PyList_New(0));
  for (gf_dirent_t* entry = nullptr; list && head != nullptr && (entry = graph_dirents_next(head, entry)) != nullptr;) {
    DirentFacts facts;
    graph_dirent(entry, &facts);
    gf_dirent_t* const own = graph_dirent_new(&facts);
    if (own == nullptr) return PyErr_NoMemory(), Ref{};
    const Ref view = make_view(frame, kind_dirents, {.dirents = own});
    if (!view || PyList_Append(list.get(), view.get()) == -1) return {};
  }
  return list;
}

Ref object_for(Frame* frame, std::span<const Field> fields, std::size_t i, Value* held) noexcept {
  Value& value = held[i];
  const Kind kind = fields[i].kind;
  if (kind >= kind_i32) {
    if (kind == kind_dev) return Ref::take(PyLong_FromUnsignedLongLong(static_cast<std::uint64_t>(value.number)));
    return Ref::take(PyLong_FromLongLong(value.number));
  }
  // Nothing was read.
  const bool empty = kind == kind_vector || kind == kind_dirents;
  if (value.text == nullptr && !empty) return Ref::borrow(Py_None);
  switch (kind) {
    case kind_iatt:
    case kind_entry:
      return make_iatt(*value.iatt);
    case kind_text:
    case kind_name:
      return text_or_none(value.text);
    case kind_dirents:
      return dirent_list(frame, value.dirents);
    case kind_flock:
      return make_flock(value.flock);
    case kind_lease:
      return make_lease(*value.lease);
    case kind_statvfs:
      return make_statvfs(*value.statvfs);
    case kind_checksum:
      return Ref::take(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(value.checksum), checksum_size));
    case kind_vector: {
      Value& count = held[place(fields, kind_count)];
      Value& iobref = held[place(fields, kind_iobref)];
      Ref view = make_view(frame, kind, value, count, iobref);
      value = iobref = {};
      return view;
    }
    default: {
      Ref view = make_view(frame, kind, value);
      value = {};
      return view;
    }
  }
}

// A number in the range of its kind.
bool number(const std::string& where, Kind kind, PyObject* object, Value* value) noexcept {
  std::int64_t low = 0, high = INT64_MAX;
  switch (kind) {
    case kind_i32:
      low = INT32_MIN;
      high = INT32_MAX;
      break;
    case kind_u32:
    case kind_mode:
      high = UINT32_MAX;
      break;
    case kind_off:
    case kind_off64:
      low = INT64_MIN;
      break;
    case kind_entrylk_cmd:
    case kind_entrylk_type:
    case kind_xattrop:
    case kind_seek:
      high = INT8_MAX;
      break;
    default:
      break;
  }
  if (PyLong_Check(object)) {
    int overflow = 0;
    value->number = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (kind == kind_dev && overflow == 1) {
      value->number = static_cast<std::int64_t>(PyLong_AsUnsignedLongLong(object));
      if (PyErr_Occurred() == nullptr) return true;
      PyErr_Clear();
    }
    if (overflow == 0 && value->number >= low && value->number <= high) return true;
  }
  const std::string range = "an int from " + std::to_string(low) + " to " + std::to_string(high);
  return wrong(where, range.c_str(), object);
}

}  // namespace

int visible(std::span<const Field> fields) noexcept {
  return static_cast<int>(std::ranges::count_if(fields, [](const Field& f) { return !is_hidden(f.kind); }));
}

bool incoming(Frame* frame, std::span<const Field> fields, Value* held, Ref* objects) noexcept {
  bool good = true;
  for (std::size_t i = 0; good && i < fields.size(); ++i) {
    if (is_hidden(fields[i].kind)) continue;
    *objects = object_for(frame, fields, i, held);
    good = static_cast<bool>(*objects++);
  }
  // What became a view is no longer among them.
  graph_drop(fields.data(), static_cast<int>(fields.size()), held);
  return good;
}

Outgoing::~Outgoing() {
  for (PyObject* const view : used_) {
    unpin(reinterpret_cast<View*>(view));
  }
  for (auto& [field, value] : own_) graph_drop(&field, 1, &value);
}

Value* Outgoing::find(std::span<const Field> fields, Kind kind) noexcept { return &values_[place(fields, kind)]; }

void Outgoing::use(PyObject* view) noexcept {
  pin(reinterpret_cast<View*>(view));
  used_.push_back(view);
}

const struct iatt* Outgoing::copy(PyObject* iatt) noexcept {
  void* const room = iatts_[iatt_count_++].data();
  if (iatt == Py_None)
    std::memset(room, 0, sizeof(struct iatt));
  else
    std::memcpy(room, &iatt_of(iatt), sizeof(struct iatt));
  return static_cast<const struct iatt*>(room);
}

bool Outgoing::fill(const char* what, std::span<const Field> fields, PyObject* const* objects, bool needed) noexcept {
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (is_hidden(fields[i].kind)) continue;
    if (!fill_one(std::string{what} + ": " + fields[i].name, fields, i, *objects++, needed)) return false;
  }
  return true;
}

bool Outgoing::dict(const std::string& where, PyObject* object, Value* value) noexcept {
  if (object == Py_None) return true;
  if (PyObject_TypeCheck(object, types.dict)) {
    auto* const view = reinterpret_cast<View*>(object);
    if (!is_alive(view)) return false;
    use(object);
    value->dict = view->value.dict;
    return true;
  }
  if (!PyDict_Check(object)) return wrong(where, "a Dict, a dict or None", object);
  value->dict = graph_dict_new();
  if (value->dict == nullptr) return PyErr_NoMemory(), false;
  own_.push_back({{kind_dict, ""}, *value});
  PyObject *key = nullptr, *item_object = nullptr;
  for (Py_ssize_t at = 0; PyDict_Next(object, &at, &key, &item_object) != 0;) {
    if (!PyUnicode_Check(key)) return wrong(where, "keys that are str", key);
    const Ref name = Ref::take(PyUnicode_EncodeFSDefault(key));
    Item item{};
    Ref keep;
    if (!name || !to_item(item_object, &item, &keep)) return false;
    if (graph_dict_set(value->dict, PyBytes_AS_STRING(name.get()), &item) != 0) return PyErr_NoMemory(), false;
  }
  return true;
}

bool Outgoing::data(const std::string& where, std::span<const Field> fields, PyObject* object, Value* value) noexcept {
  Value* const count = find(fields, kind_count);
  Value* const iobref = find(fields, kind_iobref);
  if (PyObject_TypeCheck(object, types.data)) {
    auto* const view = reinterpret_cast<View*>(object);
    if (!is_alive(view)) return false;
    use(object);
    *value = view->value;
    *count = view->count;
    *iobref = view->iobref;
    length_ = PyObject_Length(object);
    return true;
  }
  Py_buffer buffer;
  if (PyObject_CheckBuffer(object) == 0) return wrong(where, "Data or a bytes-like object", object);
  if (PyObject_GetBuffer(object, &buffer, PyBUF_FULL_RO) == -1) return false;
  length_ = buffer.len;
  iobref->iobref = graph_buffer(static_cast<std::size_t>(buffer.len), &vector_);
  const bool room = iobref->iobref != nullptr;
  if (room) own_.push_back({{kind_iobref, ""}, *iobref});
  const bool good = room && PyBuffer_ToContiguous(vector_.iov_base, &buffer, buffer.len, 'C') == 0;
  PyBuffer_Release(&buffer);
  if (!room) PyErr_NoMemory();
  value->vector = &vector_;
  count->number = 1;
  return good;
}

bool Outgoing::entries(const std::string& where, PyObject* object, Value* value) noexcept {
  const Ref list = PyUnicode_Check(object) ? Ref{} : Ref::take(PySequence_Fast(object, ""));
  if (!list) {
    PyErr_Clear();
    return wrong(where, "a list of Dirent", object);
  }
  value->dirents = graph_dirents_new();
  if (value->dirents == nullptr) return PyErr_NoMemory(), false;
  own_.push_back({{kind_dirents, ""}, *value});
  length_ = PySequence_Fast_GET_SIZE(list.get());
  for (Py_ssize_t i = 0; i < length_; ++i) {
    PyObject* const entry = PySequence_Fast_GET_ITEM(list.get(), i);
    if (!PyObject_TypeCheck(entry, types.dirent)) return wrong(where, "a list of Dirent", entry);
    auto* const view = reinterpret_cast<View*>(entry);
    if (!is_alive(view)) return false;
    if (!graph_dirents_add(value->dirents, view->value.dirents)) return PyErr_NoMemory(), false;
  }
  return true;
}

bool Outgoing::fill_one(const std::string& where, std::span<const Field> fields, std::size_t i, PyObject* object,
                        bool needed) noexcept {
  struct Name {
    Kind kind;
    PyTypeObject* type;
    const char* expected;
  };
  const Kind kind = fields[i].kind;
  Value& value = values_[i];
  if (kind >= kind_i32) {
    if (object == Py_None && !needed) return true;
    return number(where, kind, object, &value);
  }
  if (kind == kind_dict) return dict(where, object, &value);
  if (kind == kind_iatt && (object == Py_None || PyObject_TypeCheck(object, types.iatt))) {
    if (needed || object != Py_None) value.iatt = const_cast<struct iatt*>(copy(object));
    return true;
  }
  // Without a name, it is all attributes, or all entries.
  if (object == Py_None && (!needed || kind == kind_name)) return true;
  switch (kind) {
    case kind_vector:
      return data(where, fields, object, &value);
    case kind_dirents:
      return entries(where, object, &value);
    case kind_text:
    case kind_name: {
      if (!PyUnicode_Check(object)) return wrong(where, kind == kind_text ? "a str" : "a str or None", object);
      kept_.push_back(Ref::take(PyUnicode_EncodeFSDefault(object)));
      if (!kept_.back()) return false;
      value.text = PyBytes_AS_STRING(kept_.back().get());
      length_ = PyBytes_GET_SIZE(kept_.back().get());
      if (std::strlen(value.text) == static_cast<std::size_t>(length_)) return true;
      return wrong(where, "a str without NUL characters", object);
    }
    case kind_checksum: {
      if (!PyBytes_Check(object) || PyBytes_GET_SIZE(object) != checksum_size) return wrong(where, "32 bytes", object);
      std::memcpy(checksum_.data(), PyBytes_AS_STRING(object), checksum_.size());
      value.checksum = checksum_.data();
      return true;
    }
    case kind_entry: {
      if (!PyObject_TypeCheck(object, types.iatt)) return wrong(where, "an Iatt", object);
      value.iatt = const_cast<struct iatt*>(copy(object));
      // The layers above find the inode by it.
      constexpr std::uint8_t none[gfid_size] = {};
      return !needed || std::memcmp(value.iatt->ia_gfid, none, gfid_size) != 0 ||
             wrong(where, "an Iatt with a gfid", object);
    }
    case kind_iatt:
      return wrong(where, "an Iatt or None", object);
    default:
      break;
  }
  const Name names[] = {
      {kind_loc, types.loc, "a Loc"},
      {kind_fd, types.fd, "an Fd"},
      {kind_inode, types.inode, "an Inode"},
      {kind_locks, types.locks, "Locks"},
      {kind_flock, types.flock, "a Flock"},
      {kind_lease, types.lease, "a Lease"},
      {kind_statvfs, types.statvfs, "a Statvfs"},
  };
  const Name& name = *std::ranges::find(names, kind, &Name::kind);
  if (!PyObject_TypeCheck(object, name.type)) return wrong(where, name.expected, object);
  switch (kind) {
    case kind_flock:
      kept_.push_back(Ref::borrow(object));
      value.flock = flock_of(object);
      return true;
    case kind_lease:
      kept_.push_back(Ref::borrow(object));
      value.lease = lease_of(object);
      return true;
    case kind_statvfs:
      kept_.push_back(Ref::borrow(object));
      value.statvfs = statvfs_of(object);
      return true;
    default: {
      auto* const view = reinterpret_cast<View*>(object);
      if (!is_alive(view)) return false;
      use(object);
      value = view->value;
      return true;
    }
  }
}

}  // namespace nbdkit_python::gluster
