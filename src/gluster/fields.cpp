// SPDX-License-Identifier: BSD-3-Clause
// The fields of a file operation, from GlusterFS's values to Python's objects and back.
#include "fields.hpp"

#include <climits>
#include <cstring>
#include <string>

extern "C" {
#include <glusterfs/glusterfs-fops.h>
#include <glusterfs/iatt.h>
}

#include "nbdkit_python/error.hpp"
#include "plain.hpp"
#include "view.hpp"

namespace nbdkit_python::gluster {

namespace {

std::size_t place(Fields fields, Kind kind) noexcept {
  const auto found = std::ranges::find(fields, kind, &Field::kind);
  return static_cast<std::size_t>(found - fields.begin());
}

// The entries of a folder as a list, each a view of its own; they are taken from the values.
Ref dirent_list(Frame* frame, gf_dirent_t* head) noexcept {
  Ref list = Ref::take(PyList_New(0));
  for (gf_dirent_t* entry = nullptr; list && head != nullptr && (entry = graph_dirents_next(head, entry)) != nullptr;) {
    DirentFacts facts;
    graph_dirent(entry, &facts);
    gf_dirent_t* const own = graph_dirent_new(&facts);
    if (own == nullptr) return PyErr_NoMemory(), Ref{};
    const Ref view = make_view(frame, {kind_dirents, {.dirents = own}});
    if (!view || PyList_Append(list.get(), view.get()) == -1) return {};
  }
  return list;
}

Ref object_for(Frame* frame, Fields fields, std::size_t i, Value* held) noexcept {
  Value& value = held[i];
  const Kind kind = fields[i].kind;
  if (kind == kind_dev) return Ref::take(PyLong_FromUnsignedLongLong(static_cast<std::uint64_t>(value.number)));
  if (kind >= kind_i32) return Ref::take(PyLong_FromLongLong(value.number));
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
      Value& iobref = held[place(fields, kind_iobref)];
      const Held data{kind, std::exchange(value, {}), held[place(fields, kind_count)], std::exchange(iobref, {})};
      return make_view(frame, data);
    }
    default:
      return make_view(frame, {kind, std::exchange(value, {})});
  }
}

struct Range {
  std::int64_t low, high;
};

Range range_of(Kind kind) noexcept {
  switch (kind) {
    case kind_i32:
      return {INT32_MIN, INT32_MAX};
    case kind_u32:
    case kind_mode:
      return {0, UINT32_MAX};
    case kind_off:
    case kind_off64:
      return {INT64_MIN, INT64_MAX};
    case kind_entrylk_cmd:
    case kind_entrylk_type:
    case kind_xattrop:
    case kind_seek:
      return {0, INT8_MAX};
    default:
      return {0, INT64_MAX};
  }
}

// What an object of this kind should be, for the error.
const char* expected_of(Kind kind) noexcept {
  switch (kind) {
    case kind_loc:
      return "a Loc";
    case kind_fd:
      return "an Fd";
    case kind_inode:
      return "an Inode";
    case kind_locks:
      return "Locks";
    case kind_flock:
      return "a Flock";
    case kind_lease:
      return "a Lease";
    default:
      return "a Statvfs";
  }
}

}  // namespace

Incoming::Incoming(Frame* frame, Fields fields, Value* held) noexcept {
  for (std::size_t i = 0; good_ && i < fields.size(); ++i) {
    if (is_hidden(fields[i])) continue;
    objects_[count_] = object_for(frame, fields, i, held);
    good_ = static_cast<bool>(objects_[count_++]);
  }
  // What became a view is no longer among them.
  drop(fields, held);
}

Outgoing::~Outgoing() {
  for (View* const view : used_) unpin(view);
  for (const auto& [kind, value] : own_) drop(kind, value);
}

bool Outgoing::arguments(std::span<PyObject* const> objects) noexcept {
  const Fields fields = arguments_of(fop_);
  const std::size_t expected = visible(fields);
  if (objects.size() == expected) return fill(fields, objects.data(), true);
  if (objects.size() != expected - 1) return fits(fields, objects.size());
  std::array<PyObject*, max_values> with_xdata{};
  *std::ranges::copy(objects, with_xdata.begin()).out = Py_None;
  return fill(fields, with_xdata.data(), true);
}

bool Outgoing::answer(std::span<PyObject* const> objects, bool needed) noexcept {
  const Fields fields = answer_of(fop_);
  return fits(fields, objects.size()) && fill(fields, objects.data(), needed);
}

// Whether there are as many as fields.
bool Outgoing::fits(Fields fields, std::size_t count) const noexcept {
  if (count == visible(fields)) return true;
  std::string names;
  for (const Field& field : fields)
    if (!is_hidden(field)) (names += names.empty() ? "" : ", ") += field.name;
  PyErr_Format(PyExc_TypeError, "%s%s(%s): got %zu of these %zu arguments", verb_, graph_fops[fop_].name, names.c_str(),
               count, visible(fields));
  return false;
}

bool Outgoing::fill(Fields fields, PyObject* const* objects, bool needed) noexcept {
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (is_hidden(fields[i])) continue;
    field_ = fields[i].name;
    if (!fill_one(fields, i, *objects++, needed)) return false;
  }
  return true;
}

bool Outgoing::fill_one(Fields fields, std::size_t i, PyObject* object, bool needed) noexcept {
  const Kind kind = fields[i].kind;
  Value& value = values_[i];
  if (object == Py_None && !needed) return true;
  switch (kind) {
    case kind_text:
    case kind_name:
      return text(kind, object, &value);
    case kind_dict:
      return dict(object, &value);
    case kind_iatt:
    case kind_entry:
      return iatt(kind, object, needed, &value);
    case kind_vector:
      return data(fields, object, &value);
    case kind_dirents:
      return entries(object, &value);
    case kind_checksum:
      return checksum(object, &value);
    case kind_flock:
    case kind_lease:
    case kind_statvfs:
      return plain(kind, object, &value);
    case kind_loc:
    case kind_fd:
    case kind_inode:
    case kind_locks:
      return view(kind, object, &value);
    default:
      return number(kind, object, &value);
  }
}

bool Outgoing::number(Kind kind, PyObject* object, Value* value) noexcept {
  const auto [low, high] = range_of(kind);
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
  return wrong(("an int from " + std::to_string(low) + " to " + std::to_string(high)).c_str(), object);
}

bool Outgoing::text(Kind kind, PyObject* object, Value* value) noexcept {
  // Without a name, it is all attributes, or all entries.
  if (object == Py_None && kind == kind_name) return true;
  if (!PyUnicode_Check(object)) return wrong(kind == kind_text ? "a str" : "a str or None", object);
  kept_.push_back(Ref::take(PyUnicode_EncodeFSDefault(object)));
  PyObject* const bytes = kept_.back().get();
  if (bytes == nullptr) return false;
  value->text = PyBytes_AS_STRING(bytes);
  length_ = PyBytes_GET_SIZE(bytes);
  return std::strlen(value->text) == static_cast<std::size_t>(length_) || wrong("a str without NUL characters", object);
}

bool Outgoing::checksum(PyObject* object, Value* value) noexcept {
  if (!PyBytes_Check(object) || PyBytes_GET_SIZE(object) != checksum_size) return wrong("32 bytes", object);
  std::memcpy(checksum_.data(), PyBytes_AS_STRING(object), checksum_.size());
  value->checksum = checksum_.data();
  return true;
}

bool Outgoing::dict(PyObject* object, Value* value) noexcept {
  if (object == Py_None) return true;
  if (PyObject_TypeCheck(object, types.dict)) {
    value->dict = view_of(object)->held.value.dict;
    return use(view_of(object));
  }
  if (!PyDict_Check(object)) return wrong("a Dict, a dict or None", object);
  value->dict = graph_dict_new();
  if (value->dict == nullptr) return PyErr_NoMemory(), false;
  own_.emplace_back(kind_dict, *value);
  PyObject *key = nullptr, *item = nullptr;
  for (Py_ssize_t at = 0; PyDict_Next(object, &at, &key, &item) != 0;) {
    if (!PyUnicode_Check(key)) return wrong("keys that are str", key);
    if (!set_item(value->dict, key, item)) return false;
  }
  return true;
}

bool Outgoing::iatt(Kind kind, PyObject* object, bool needed, Value* value) noexcept {
  const bool may_be_none = kind == kind_iatt;
  const bool none = object == Py_None && may_be_none;
  if (!none && !PyObject_TypeCheck(object, types.iatt))
    return wrong(may_be_none ? "an Iatt or None" : "an Iatt", object);
  void* const room = iatts_[iatt_count_++].data();
  if (none)
    std::memset(room, 0, sizeof(struct iatt));
  else
    std::memcpy(room, &iatt_of(object), sizeof(struct iatt));
  value->iatt = static_cast<struct iatt*>(room);
  // The layers above find the inode by it.
  constexpr std::uint8_t no_gfid[gfid_size] = {};
  return kind != kind_entry || !needed || std::memcmp(value->iatt->ia_gfid, no_gfid, gfid_size) != 0 ||
         wrong("an Iatt with a gfid", object);
}

bool Outgoing::data(Fields fields, PyObject* object, Value* value) noexcept {
  Value* const count = find(fields, kind_count);
  Value* const iobref = find(fields, kind_iobref);
  if (PyObject_TypeCheck(object, types.data)) {
    View* const view = view_of(object);
    if (!use(view)) return false;
    *value = view->held.value;
    *count = view->held.count;
    *iobref = view->held.iobref;
    length_ = PyObject_Length(object);
    return true;
  }
  Py_buffer buffer;
  if (PyObject_CheckBuffer(object) == 0) return wrong("Data or a bytes-like object", object);
  if (PyObject_GetBuffer(object, &buffer, PyBUF_FULL_RO) == -1) return false;
  length_ = buffer.len;
  iobref->iobref = graph_buffer(static_cast<std::size_t>(buffer.len), &vector_);
  const bool room = iobref->iobref != nullptr;
  if (room) own_.emplace_back(kind_iobref, *iobref);
  const bool good = room && PyBuffer_ToContiguous(vector_.iov_base, &buffer, buffer.len, 'C') == 0;
  PyBuffer_Release(&buffer);
  if (!room) PyErr_NoMemory();
  value->vector = &vector_;
  count->number = 1;
  return good;
}

bool Outgoing::entries(PyObject* object, Value* value) noexcept {
  const Ref items = PyUnicode_Check(object) ? Ref{} : Ref::take(PyObject_GetIter(object));
  if (!items) {
    PyErr_Clear();
    return wrong("a list of Dirent", object);
  }
  // A generator may raise something of its own.
  const Ref list = Ref::take(PySequence_List(items.get()));
  if (!list) return false;
  value->dirents = graph_dirents_new();
  if (value->dirents == nullptr) return PyErr_NoMemory(), false;
  own_.emplace_back(kind_dirents, *value);
  length_ = PySequence_Fast_GET_SIZE(list.get());
  for (Py_ssize_t i = 0; i < length_; ++i) {
    PyObject* const entry = PySequence_Fast_GET_ITEM(list.get(), i);
    if (!PyObject_TypeCheck(entry, types.dirent)) return wrong("a list of Dirent", entry);
    if (!is_alive(view_of(entry))) return false;
    if (!graph_dirents_add(value->dirents, view_of(entry)->held.value.dirents)) return PyErr_NoMemory(), false;
  }
  return true;
}

bool Outgoing::plain(Kind kind, PyObject* object, Value* value) noexcept {
  PyTypeObject* const type = kind == kind_flock ? types.flock : kind == kind_lease ? types.lease : types.statvfs;
  if (!PyObject_TypeCheck(object, type)) return wrong(expected_of(kind), object);
  kept_.push_back(Ref::borrow(object));
  if (kind == kind_flock)
    value->flock = flock_of(object);
  else if (kind == kind_lease)
    value->lease = lease_of(object);
  else
    value->statvfs = statvfs_of(object);
  return true;
}

bool Outgoing::view(Kind kind, PyObject* object, Value* value) noexcept {
  if (!PyObject_TypeCheck(object, view_type(kind))) return wrong(expected_of(kind), object);
  *value = view_of(object)->held.value;
  return use(view_of(object));
}

bool Outgoing::use(View* view) noexcept {
  if (!is_alive(view)) return false;
  pin(view);
  used_.push_back(view);
  return true;
}

bool Outgoing::wrong(const char* expected, PyObject* got) const noexcept {
  PyErr_Format(PyExc_TypeError, "%s%s: %s: expected %s, got %s", verb_, graph_fops[fop_].name, field_, expected,
               describe(got).c_str());
  return false;
}

Value* Outgoing::find(Fields fields, Kind kind) noexcept { return &values_[place(fields, kind)]; }

}  // namespace nbdkit_python::gluster
