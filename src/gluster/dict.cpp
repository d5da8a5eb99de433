// SPDX-License-Identifier: BSD-3-Clause
// Dict: a dict of GlusterFS's as a mapping.
#include <cerrno>
#include <cstring>

#include "nbdkit_python/error.hpp"
#include "view.hpp"

namespace nbdkit_python::gluster {

namespace {

// Keys and values, both ways.

// The key's bytes, which `keep` has; null: Python's error indicator is set.
const char* key_text(PyObject* key, Ref* keep) noexcept {
  if (!PyUnicode_Check(key)) {
    PyErr_Format(PyExc_TypeError, "a key: expected a str, got %s", describe(key).c_str());
    return nullptr;
  }
  *keep = Ref::take(PyUnicode_EncodeFSDefault(key));
  if (!*keep) return nullptr;
  const char* const text = PyBytes_AS_STRING(keep->get());
  if (std::strlen(text) == static_cast<std::size_t>(PyBytes_GET_SIZE(keep->get()))) return text;
  PyErr_SetString(PyExc_ValueError, "a key: expected a str without NUL characters");
  return nullptr;
}

Ref item_object(const Item& item) noexcept {
  switch (item.type) {
    case item_signed:
      return Ref::take(PyLong_FromLongLong(item.number));
    case item_unsigned:
      return Ref::take(PyLong_FromUnsignedLongLong(static_cast<std::uint64_t>(item.number)));
    case item_real:
      return Ref::take(PyFloat_FromDouble(item.real));
    case item_text:
      return Ref::take(PyUnicode_DecodeFSDefaultAndSize(item.data, static_cast<Py_ssize_t>(item.size)));
    case item_gfid:
      return gfid_text(reinterpret_cast<const std::uint8_t*>(item.data));
    default:
      return Ref::take(PyBytes_FromStringAndSize(item.data, static_cast<Py_ssize_t>(item.size)));
  }
}

// Raises an error on the value of this key. False.
bool wrong_value(const char* key, const char* expected, PyObject* got) noexcept {
  PyErr_Format(PyExc_TypeError, "the value of %s: expected %s, got %s", key, expected, describe(got).c_str());
  return false;
}

// The item of an int or bool. False: Python's error indicator is set.
bool number_item(const char* key, PyObject* object, Item* item) noexcept {
  int overflow = 0;
  item->type = item_signed;
  item->number = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (overflow == 0) return true;
  item->type = item_unsigned;
  item->number = static_cast<std::int64_t>(PyLong_AsUnsignedLongLong(object));
  if (PyErr_Occurred() == nullptr) return true;
  PyErr_Clear();
  return wrong_value(key, "an int of 64 bits", object);
}

// The item of any object; `keep` has what it points into. False: as above.
bool to_item(const char* key, PyObject* object, Item* item, Ref* keep) noexcept {
  if (PyLong_Check(object)) return number_item(key, object, item);
  if (PyFloat_Check(object)) {
    item->type = item_real;
    item->real = PyFloat_AS_DOUBLE(object);
    return true;
  }
  if (PyObject_TypeCheck(object, types.gfid)) {
    std::uint8_t gfid[gfid_size] = {};
    if (!parse_gfid(object, gfid)) return wrong_value(key, "a Gfid", object);
    item->type = item_gfid;
    *keep = Ref::take(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(gfid), gfid_size));
  } else if (PyUnicode_Check(object)) {
    item->type = item_text;
    *keep = Ref::take(PyUnicode_EncodeFSDefault(object));
  } else if (PyObject_CheckBuffer(object) != 0) {
    item->type = item_bytes;
    *keep = Ref::take(PyBytes_FromObject(object));
  } else {
    wrong_value(key, "an int, float, str or bytes", object);
  }
  if (!*keep) return false;
  item->data = PyBytes_AS_STRING(keep->get());
  item->size = static_cast<std::size_t>(PyBytes_GET_SIZE(keep->get()));
  if (item->type != item_text || std::strlen(item->data) == item->size) return true;
  return wrong_value(key, "a str without NUL characters", object);
}

// The mapping.

dict_t* dict_of(PyObject* self) noexcept { return view_of(self)->held.value.dict; }

Py_ssize_t length(PyObject* self) noexcept {
  return is_alive(view_of(self)) ? static_cast<Py_ssize_t>(graph_dict_count(dict_of(self))) : -1;
}

// The value of this key, or empty: with Python's error indicator set, or (`missing`) without.
Ref find(PyObject* self, PyObject* key, bool* missing) noexcept {
  Ref keep, found;
  *missing = false;
  const char* const text = is_alive(view_of(self)) ? key_text(key, &keep) : nullptr;
  if (text == nullptr) return {};
  const auto take = [](void* context, const char*, const Item* item) {
    *static_cast<Ref*>(context) = item_object(*item);
    return true;
  };
  *missing = !graph_dict_visit(dict_of(self), text, take, &found);
  return found;
}

PyObject* subscript(PyObject* self, PyObject* key) noexcept {
  bool missing = false;
  Ref value = find(self, key, &missing);
  if (missing) PyErr_SetObject(PyExc_KeyError, key);
  return value.release();
}

int contains(PyObject* self, PyObject* key) noexcept {
  bool missing = false;
  if (find(self, key, &missing)) return 1;
  return missing ? 0 : -1;
}

PyObject* get(PyObject* self, PyObject* const* arguments, Py_ssize_t count) noexcept {
  if (count < 1 || count > 2) {
    PyErr_Format(PyExc_TypeError, "get(key, default=None): got %zd arguments", count);
    return nullptr;
  }
  bool missing = false;
  Ref value = find(self, arguments[0], &missing);
  return missing ? Ref::borrow(count == 2 ? arguments[1] : Py_None).release() : value.release();
}

int remove(PyObject* self, PyObject* key) noexcept {
  Ref keep;
  const char* const text = key_text(key, &keep);
  if (text == nullptr) return -1;
  const auto there = [](void*, const char*, const Item*) { return true; };
  if (!graph_dict_visit(dict_of(self), text, there, nullptr)) {
    PyErr_SetObject(PyExc_KeyError, key);
    return -1;
  }
  graph_dict_delete(dict_of(self), text);
  return 0;
}

int assign(PyObject* self, PyObject* key, PyObject* value) noexcept {
  if (!is_alive(view_of(self))) return -1;
  if (value == nullptr) return remove(self, key);
  return set_item(dict_of(self), key, value) ? 0 : -1;
}

// For each item, what a list has of it.
enum class Part { key, value, pair };

struct Listing {
  Ref list;
  Part part;
};

Ref part_of(Part part, const char* key, const Item& item) noexcept {
  if (part == Part::value) return item_object(item);
  Ref name = text_or_none(key);
  if (part == Part::key) return name;
  const Ref value = item_object(item);
  return name && value ? Ref::take(PyTuple_Pack(2, name.get(), value.get())) : Ref{};
}

bool list_item(void* context, const char* key, const Item* item) noexcept {
  const auto& listing = *static_cast<const Listing*>(context);
  const Ref entry = part_of(listing.part, key, *item);
  return entry && PyList_Append(listing.list.get(), entry.get()) == 0;
}

// A list, so that the dict can be changed while it is gone through.
Ref make_list(PyObject* self, Part part) noexcept {
  if (!is_alive(view_of(self))) return {};
  Listing listing{Ref::take(PyList_New(0)), part};
  if (!listing.list || !graph_dict_visit(dict_of(self), nullptr, list_item, &listing)) return {};
  return std::move(listing.list);
}

template <Part part>
PyObject* list(PyObject* self, PyObject*) noexcept {
  return make_list(self, part).release();
}

PyObject* iterate(PyObject* self) noexcept {
  const Ref keys = make_list(self, Part::key);
  return keys ? PyObject_GetIter(keys.get()) : nullptr;
}

Ref text(const View* view) noexcept {
  const Ref items = make_list(object(const_cast<View*>(view)), Part::pair);
  Ref copy = items ? Ref::take(PyDict_New()) : Ref{};
  return copy && PyDict_MergeFromSeq2(copy.get(), items.get(), 1) == 0 ? std::move(copy) : Ref{};
}

PyMethodDef methods[] = {
    {"get", function(get), METH_FASTCALL, "get(key, default=None): the value of this key, or the default."},
    {"keys", list<Part::key>, METH_NOARGS, "A list of the keys."},
    {"values", list<Part::value>, METH_NOARGS, "A list of the values."},
    {"items", list<Part::pair>, METH_NOARGS, "A list of (key, value)."},
    {}};

}  // namespace

bool set_item(dict_t* dict, PyObject* key, PyObject* value) noexcept {
  Ref keep_key, keep;
  const char* const text = key_text(key, &keep_key);
  Item item{};
  if (text == nullptr || !to_item(text, value, &item, &keep)) return false;
  const int err = graph_dict_set(dict, text, &item);
  if (err == 0) return true;
  errno = err;
  PyErr_SetFromErrno(PyExc_OSError);
  return false;
}

PyTypeObject* make_dict_type() noexcept {
  return make_view_type("glusterfs.Dict",
                        "What goes with a request or an answer: keys, which are str, and values: int, float, str or "
                        "bytes. Changes are seen by whoever has it.",
                        no_constructor,
                        {{Py_tp_methods, methods},
                         {Py_mp_length, slot(length)},
                         {Py_mp_subscript, slot(subscript)},
                         {Py_mp_ass_subscript, slot(assign)},
                         {Py_sq_contains, slot(contains)},
                         {Py_tp_iter, slot(iterate)},
                         {Py_tp_repr, slot(shown<text>)}});
}

}  // namespace nbdkit_python::gluster
