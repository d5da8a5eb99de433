// SPDX-License-Identifier: BSD-3-Clause
// Python's objects for those of GlusterFS: Loc, Fd, Inode, Dict, Data, Dirent, Locks.
//
// Each holds its object by a reference or a copy of its own, until the request that it came with has been answered.
// Then it expires: what it holds is let go, and to use it is an error. So a script that keeps one reads nothing that is
// not there any more, and keeps no file open.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "door.hpp"
#include "nbdkit_python/error.hpp"

namespace nbdkit_python::gluster {

Types types;

namespace {

View* view_of(PyObject* object) noexcept { return reinterpret_cast<View*>(object); }

// The fields by which what a view holds is dropped.
std::span<const Field> fields_of(const View* view) noexcept {
  static const Field loc[] = {{kind_loc, ""}};
  static const Field fd[] = {{kind_fd, ""}};
  static const Field inode[] = {{kind_inode, ""}};
  static const Field dict[] = {{kind_dict, ""}};
  static const Field locks[] = {{kind_locks, ""}};
  static const Field data[] = {{kind_vector, ""}, {kind_count, ""}, {kind_iobref, ""}};
  PyTypeObject* const type = Py_TYPE(view);
  if (type == types.loc) return loc;
  if (type == types.fd) return fd;
  if (type == types.inode) return inode;
  if (type == types.dict) return dict;
  if (type == types.locks) return locks;
  return data;
}

void drop(View* view) noexcept {
  if (view->value.text == nullptr) return;
  if (Py_TYPE(view) == types.dirent) {
    graph_dirent_free(view->value.dirents);
  } else {
    Value values[] = {view->value, view->count, view->iobref};
    const auto fields = fields_of(view);
    graph_drop(fields.data(), static_cast<int>(fields.size()), values);
  }
  view->value = view->iobref = {};
  Py_CLEAR(view->joined);
}

void dealloc(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  drop(view_of(self));
  type->tp_free(self);
  Py_DECREF(type);
}

// One whose request is not answered yet is the script's again in a view of its own.
Ref another(View* view, Kind kind, Value value) noexcept {
  if (value.text == nullptr) return Ref::borrow(Py_None);
  const Field field{kind, ""};
  if (!graph_hold(&field, 1, &value)) return PyErr_NoMemory(), Ref{};
  return make_view(view->frame, kind, value);
}

PyTypeObject* type_of(Kind kind) noexcept {
  switch (kind) {
    case kind_loc:
      return types.loc;
    case kind_fd:
      return types.fd;
    case kind_inode:
      return types.inode;
    case kind_dict:
      return types.dict;
    case kind_dirents:
      return types.dirent;
    case kind_locks:
      return types.locks;
    default:
      return types.data;
  }
}

// A getter or method of a view that is alive: `body` has it as `view`.
#define GETTER(name, body)                         \
  PyObject* name(PyObject* self, void*) noexcept { \
    View* const view = view_of(self);              \
    if (!is_alive(view)) return nullptr;           \
    body                                           \
  }

LocFacts loc_facts(const View* view) noexcept {
  LocFacts facts;
  graph_loc(view->value.loc, &facts);
  return facts;
}

GETTER(loc_path, return text_or_none(loc_facts(view).path).release();)
GETTER(loc_name, return text_or_none(loc_facts(view).name).release();)
GETTER(loc_inode, return another(view, kind_inode, {.inode = loc_facts(view).inode}).release();)
GETTER(loc_parent, return another(view, kind_inode, {.inode = loc_facts(view).parent}).release();)
GETTER(loc_gfid, return gfid_text(loc_facts(view).gfid).release();)
GETTER(loc_pargfid, return gfid_text(loc_facts(view).pargfid).release();)

FdFacts fd_facts(const View* view) noexcept {
  FdFacts facts;
  graph_fd(view->value.fd, &facts);
  return facts;
}

GETTER(fd_inode, return another(view, kind_inode, {.inode = fd_facts(view).inode}).release();)
GETTER(fd_flags, return PyLong_FromLong(fd_facts(view).flags);)
GETTER(fd_pid, return PyLong_FromUnsignedLongLong(fd_facts(view).pid);)
GETTER(fd_anonymous, return PyBool_FromLong(fd_facts(view).anonymous);)

GETTER(inode_gfid, return gfid_text(graph_inode_gfid(view->value.inode)).release();)
GETTER(inode_type, return PyLong_FromLong(graph_inode_type(view->value.inode));)

std::uint64_t context_of(const View* view) noexcept {
  xlator_t* const xl = view->instance->xl;
  return Py_TYPE(view) == types.fd ? graph_fd_context(view->value.fd, xl) : graph_inode_context(view->value.inode, xl);
}

GETTER(context, return Ref::borrow(view->instance->contexts.get(context_of(view))).release();)

int set_context(PyObject* self, PyObject* object, void*) noexcept {
  View* const view = view_of(self);
  if (!is_alive(view)) return -1;
  Contexts& contexts = view->instance->contexts;
  if (object == nullptr) object = Py_None;
  if (const std::uint64_t number = context_of(view); number != 0) {
    contexts.set(number, object);
    return 0;
  }
  const std::uint64_t number = contexts.add(object);
  if (number == 0) return -1;
  xlator_t* const xl = view->instance->xl;
  if (Py_TYPE(view) == types.fd ? graph_set_fd_context(view->value.fd, xl, number)
                                : graph_set_inode_context(view->value.inode, xl, number))
    return 0;
  contexts.forget(number);
  PyErr_NoMemory();
  return -1;
}

// dict

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

// The key's bytes, kept by `keep`; null: Python's error indicator is set.
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

Py_ssize_t dict_length(PyObject* self) noexcept {
  View* const view = view_of(self);
  return is_alive(view) ? static_cast<Py_ssize_t>(graph_dict_count(view->value.dict)) : -1;
}

// The value of this key, or empty: with Python's error indicator set, or (`missing`) without.
Ref dict_item(View* view, PyObject* key, bool* missing) noexcept {
  Ref keep, found;
  *missing = false;
  const char* const text = is_alive(view) ? key_text(key, &keep) : nullptr;
  if (text == nullptr) return {};
  const auto take = [](void* context, const char*, const Item* item) {
    *static_cast<Ref*>(context) = item_object(*item);
    return true;
  };
  *missing = !graph_dict_visit(view->value.dict, text, take, &found);
  return found;
}

PyObject* dict_subscript(PyObject* self, PyObject* key) noexcept {
  bool missing = false;
  Ref item = dict_item(view_of(self), key, &missing);
  if (missing) PyErr_SetObject(PyExc_KeyError, key);
  return item.release();
}

int dict_contains(PyObject* self, PyObject* key) noexcept {
  bool missing = false;
  if (dict_item(view_of(self), key, &missing)) return 1;
  return missing ? 0 : -1;
}

PyObject* dict_get(PyObject* self, PyObject* const* arguments, Py_ssize_t count) noexcept {
  if (count < 1 || count > 2) {
    PyErr_Format(PyExc_TypeError, "get(key, default=None): got %zd arguments", count);
    return nullptr;
  }
  bool missing = false;
  Ref item = dict_item(view_of(self), arguments[0], &missing);
  return missing ? Ref::borrow(count == 2 ? arguments[1] : Py_None).release() : item.release();
}

int dict_assign(PyObject* self, PyObject* key, PyObject* object) noexcept {
  View* const view = view_of(self);
  Ref keep_key, keep;
  const char* const text = is_alive(view) ? key_text(key, &keep_key) : nullptr;
  if (text == nullptr) return -1;
  if (object == nullptr) {
    const auto there = [](void*, const char*, const Item*) { return true; };
    if (!graph_dict_visit(view->value.dict, text, there, nullptr)) {
      PyErr_SetObject(PyExc_KeyError, key);
      return -1;
    }
    graph_dict_delete(view->value.dict, text);
    return 0;
  }
  Item item{};
  if (!to_item(object, &item, &keep)) return -1;
  const int err = graph_dict_set(view->value.dict, text, &item);
  if (err == 0) return 0;
  errno = err;
  PyErr_SetFromErrno(PyExc_OSError);
  return -1;
}

enum class Part { key, value, pair };

struct Listing {
  Ref list;
  Part part;
};

bool list_item(void* context, const char* key, const Item* item) noexcept {
  auto& listing = *static_cast<Listing*>(context);
  const Ref name = listing.part == Part::value ? Ref::borrow(Py_None) : Ref::take(PyUnicode_DecodeFSDefault(key));
  const Ref value = listing.part == Part::key ? Ref::borrow(Py_None) : item_object(*item);
  if (!name || !value) return false;
  const Ref entry = listing.part == Part::key     ? Ref::borrow(name.get())
                    : listing.part == Part::value ? Ref::borrow(value.get())
                                                  : Ref::take(PyTuple_Pack(2, name.get(), value.get()));
  return entry && PyList_Append(listing.list.get(), entry.get()) == 0;
}

// A list, so that the dict can be changed while it is gone through.
Ref dict_list(PyObject* self, Part part) noexcept {
  View* const view = view_of(self);
  if (!is_alive(view)) return {};
  Listing listing{Ref::take(PyList_New(0)), part};
  if (!listing.list || !graph_dict_visit(view->value.dict, nullptr, list_item, &listing)) return {};
  return std::move(listing.list);
}

PyObject* dict_keys(PyObject* self, PyObject*) noexcept { return dict_list(self, Part::key).release(); }
PyObject* dict_values(PyObject* self, PyObject*) noexcept { return dict_list(self, Part::value).release(); }
PyObject* dict_items(PyObject* self, PyObject*) noexcept { return dict_list(self, Part::pair).release(); }

PyObject* dict_iterate(PyObject* self) noexcept {
  const Ref keys = dict_list(self, Part::key);
  return keys ? PyObject_GetIter(keys.get()) : nullptr;
}

PyObject* dict_text(PyObject* self) noexcept {
  if (view_of(self)->expired) return PyUnicode_FromString("<glusterfs.Dict, expired>");
  const Ref items = dict_list(self, Part::pair);
  const Ref copy = items ? Ref::take(PyDict_New()) : Ref{};
  if (!copy || PyDict_MergeFromSeq2(copy.get(), items.get(), 1) == -1) return nullptr;
  return PyUnicode_FromFormat("<glusterfs.Dict %R>", copy.get());
}

// data

std::span<const struct iovec> buffers(const View* view) noexcept {
  return {view->value.vector, static_cast<std::size_t>(view->count.number)};
}

std::size_t data_size(const View* view) noexcept {
  std::size_t size = 0;
  for (const struct iovec& buffer : buffers(view)) size += buffer.iov_len;
  return size;
}

Py_ssize_t data_length(PyObject* self) noexcept {
  View* const view = view_of(self);
  return is_alive(view) ? static_cast<Py_ssize_t>(data_size(view)) : -1;
}

// All of it in one piece: the memory itself where that is one already. False: Python's error indicator is set.
bool join(View* view, const char** begin) noexcept {
  const auto parts = buffers(view);
  if (parts.size() <= 1) {
    *begin = parts.empty() ? "" : static_cast<const char*>(parts[0].iov_base);
    return true;
  }
  if (view->joined == nullptr) {
    view->joined = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(data_size(view)));
    if (view->joined == nullptr) return false;
    char* to = PyBytes_AS_STRING(view->joined);
    for (const struct iovec& part : parts) to = std::copy_n(static_cast<const char*>(part.iov_base), part.iov_len, to);
  }
  *begin = PyBytes_AS_STRING(view->joined);
  return true;
}

int get_buffer(PyObject* self, Py_buffer* buffer, int flags) noexcept {
  View* const view = view_of(self);
  const char* begin = nullptr;
  buffer->obj = nullptr;
  if (!is_alive(view) || !join(view, &begin)) return -1;
  const auto size = static_cast<Py_ssize_t>(data_size(view));
  if (PyBuffer_FillInfo(buffer, self, const_cast<char*>(begin), size, 1, flags) == -1) return -1;
  ++view->instance->exported;
  pin(view);
  return 0;
}

void release_buffer(PyObject* self, Py_buffer*) noexcept {
  --view_of(self)->instance->exported;
  unpin(view_of(self));
}

// dirent

DirentFacts dirent_facts(const View* view) noexcept {
  DirentFacts facts;
  graph_dirent(view->value.dirents, &facts);
  return facts;
}

GETTER(dirent_name, return text_or_none(dirent_facts(view).name).release();)
GETTER(dirent_ino, return PyLong_FromUnsignedLongLong(dirent_facts(view).ino);)
GETTER(dirent_offset, return PyLong_FromUnsignedLongLong(dirent_facts(view).offset);)
GETTER(dirent_type, return PyLong_FromUnsignedLong(dirent_facts(view).type);)
GETTER(dirent_stat, return make_iatt(*dirent_facts(view).stat).release();)
GETTER(dirent_dict, return another(view, kind_dict, {.dict = dirent_facts(view).dict}).release();)
GETTER(dirent_inode, return another(view, kind_inode, {.inode = dirent_facts(view).inode}).release();)

PyObject* dirent_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) noexcept {
  static const char* const names[] = {"name", "ino", "offset", "type", "stat", nullptr};
  PyObject* name = nullptr;
  PyObject* stat = Py_None;
  unsigned long long ino = 0, offset = 0;
  unsigned d_type = 0;
  if (PyArg_ParseTupleAndKeywords(arguments, keywords, "O&|KKIO:Dirent", const_cast<char**>(names),
                                  PyUnicode_FSConverter, &name, &ino, &offset, &d_type, &stat) == 0)
    return nullptr;
  const Ref owned = Ref::take(name);
  if (stat != Py_None && !PyObject_TypeCheck(stat, types.iatt)) {
    PyErr_Format(PyExc_TypeError, "Dirent: stat: expected an Iatt, got %s", describe(stat).c_str());
    return nullptr;
  }
  DirentFacts facts{PyBytes_AS_STRING(name), ino, offset, d_type, nullptr, nullptr, nullptr};
  if (stat != Py_None) facts.stat = const_cast<struct iatt*>(&iatt_of(stat));
  Ref self = Ref::take(type->tp_alloc(type, 0));
  if (!self) return nullptr;
  view_of(self.get())->value.dirents = graph_dirent_new(&facts);
  if (view_of(self.get())->value.dirents == nullptr) return PyErr_NoMemory();
  return self.release();
}

// Whichever: what a person sees in a log.
PyObject* text(PyObject* self) noexcept {
  const View* const view = view_of(self);
  const char* const type = Py_TYPE(self)->tp_name;
  if (view->expired) return PyUnicode_FromFormat("<%s, expired>", type);
  if (Py_TYPE(self) == types.loc) return PyUnicode_FromFormat("<%s %s>", type, loc_facts(view).path);
  if (Py_TYPE(self) == types.dirent) return PyUnicode_FromFormat("<%s %s>", type, dirent_facts(view).name);
  if (Py_TYPE(self) == types.data) return PyUnicode_FromFormat("<%s of %zu bytes>", type, data_size(view));
  const inode_t* inode = nullptr;
  if (Py_TYPE(self) == types.fd) inode = fd_facts(view).inode;
  if (Py_TYPE(self) == types.inode) inode = view->value.inode;
  const Ref gfid = inode ? gfid_text(graph_inode_gfid(inode)) : Ref{};
  if (gfid) return PyUnicode_FromFormat("<%s %U>", type, gfid.get());
  PyErr_Clear();
  return PyUnicode_FromFormat("<%s>", type);
}

// Definitions of the types.

PyGetSetDef loc_getters[] = {
    {"path", loc_path, nullptr, "Where it is in the volume, as far as GlusterFS knows, or None.", nullptr},
    {"name", loc_name, nullptr, "The last part of path, or None.", nullptr},
    {"inode", loc_inode, nullptr, "Its Inode, or None.", nullptr},
    {"parent", loc_parent, nullptr, "The Inode of the folder that it is in, or None.", nullptr},
    {"gfid", loc_gfid, nullptr, "Its gfid, a str; zeros where it has none yet.", nullptr},
    {"pargfid", loc_pargfid, nullptr, "The gfid of the folder that it is in.", nullptr},
    {}};
PyGetSetDef fd_getters[] = {
    {"inode", fd_inode, nullptr, "The Inode that is open.", nullptr},
    {"flags", fd_flags, nullptr, "How it was opened: os.O_RDWR and so on.", nullptr},
    {"pid", fd_pid, nullptr, "The process that opened it.", nullptr},
    {"anonymous", fd_anonymous, nullptr, "Whether nobody has opened it, and it is for one request.", nullptr},
    {"ctx", context, set_context, "What this translator has noted here: any object, or None.", nullptr},
    {}};
PyGetSetDef inode_getters[] = {
    {"gfid", inode_gfid, nullptr, "Its gfid, a str.", nullptr},
    {"type", inode_type, nullptr, "What it is: glusterfs.IA_IFREG and so on.", nullptr},
    {"ctx", context, set_context, "What this translator has noted here: any object, or None.", nullptr},
    {}};
PyGetSetDef dirent_getters[] = {
    {"name", dirent_name, nullptr, "The entry's name.", nullptr},
    {"ino", dirent_ino, nullptr, "Its inode number.", nullptr},
    {"offset", dirent_offset, nullptr, "Where reading goes on after it.", nullptr},
    {"type", dirent_type, nullptr, "What it is: 8 a file, 4 a folder, …, as readdir(3) has it.", nullptr},
    {"stat", dirent_stat, nullptr, "Its Iatt; filled in by readdirp.", nullptr},
    {"dict", dirent_dict, nullptr, "Its Dict, or None.", nullptr},
    {"inode", dirent_inode, nullptr, "Its Inode, or None.", nullptr},
    {}};
PyMethodDef dict_methods[] = {{"get", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(dict_get)), METH_FASTCALL,
                               "get(key, default=None): the value of this key, or the default."},
                              {"keys", dict_keys, METH_NOARGS, "A list of the keys."},
                              {"values", dict_values, METH_NOARGS, "A list of the values."},
                              {"items", dict_items, METH_NOARGS, "A list of (key, value)."},
                              {}};

template <typename Function>
void* slot(Function* function) noexcept {
  return reinterpret_cast<void*>(function);
}

constexpr unsigned long plain_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;

PyTypeObject* make(const char* name, const char* doc, std::vector<PyType_Slot> slots,
                   unsigned long flags = plain_flags) noexcept {
  slots.insert(slots.begin(), {{Py_tp_dealloc, slot(dealloc)}, {Py_tp_doc, const_cast<char*>(doc)}});
  if (std::ranges::none_of(slots, [](const PyType_Slot& s) { return s.slot == Py_tp_repr; }))
    slots.push_back({Py_tp_repr, slot(text)});
  slots.push_back({0, nullptr});
  PyType_Spec spec{name, sizeof(View), 0, static_cast<unsigned>(flags), slots.data()};
  return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
}

}  // namespace

bool make_view_types() noexcept {
  types.loc = make("glusterfs.Loc", "Where in the volume a file operation works.", {{Py_tp_getset, loc_getters}});
  types.fd = make("glusterfs.Fd", "An open file or folder.", {{Py_tp_getset, fd_getters}});
  types.inode =
      make("glusterfs.Inode", "A file, folder or other, whatever its names.", {{Py_tp_getset, inode_getters}});
  types.dict = make("glusterfs.Dict",
                    "What goes with a request or an answer: keys, which are str, and values: int, float, str or bytes. "
                    "Changes are seen by whoever has it.",
                    {{Py_tp_methods, dict_methods},
                     {Py_mp_length, slot(dict_length)},
                     {Py_mp_subscript, slot(dict_subscript)},
                     {Py_mp_ass_subscript, slot(dict_assign)},
                     {Py_sq_contains, slot(dict_contains)},
                     {Py_tp_iter, slot(dict_iterate)},
                     {Py_tp_repr, slot(dict_text)}});
  types.data = make("glusterfs.Data", "The bytes of a read or a write: bytes-like, read-only, and not copied.",
                    {{Py_sq_length, slot(data_length)},
                     {Py_bf_getbuffer, slot(get_buffer)},
                     {Py_bf_releasebuffer, slot(release_buffer)}});
  types.dirent = make("glusterfs.Dirent", "Dirent(name, ino=0, offset=0, type=0, stat=None)\n\nAn entry of a folder.",
                      {{Py_tp_getset, dirent_getters}, {Py_tp_new, slot(dirent_new)}}, Py_TPFLAGS_DEFAULT);
  types.locks = make("glusterfs.Locks", "Locks on their way from one brick to another.", {});
  return types.loc != nullptr && types.fd != nullptr && types.inode != nullptr && types.dict != nullptr &&
         types.data != nullptr && types.dirent != nullptr && types.locks != nullptr;
}

Ref make_view(Frame* frame, Kind kind, const Value& value, const Value& count, const Value& iobref) noexcept {
  PyTypeObject* const type = type_of(kind);
  Ref self = Ref::take(type->tp_alloc(type, 0));
  if (self) {
    View* const view = view_of(self.get());
    view->frame = frame;
    view->instance = frame->instance;
    view->value = value;
    view->count = count;
    view->iobref = iobref;
    frame->views->push_back(Ref::borrow(self.get()).release());
    return self;
  }
  const Field fields[] = {{kind, ""}, {kind_count, ""}, {kind_iobref, ""}};
  Value values[] = {value, count, iobref};
  if (kind == kind_dirents)
    graph_dirent_free(value.dirents);
  else
    graph_drop(fields, kind == kind_vector ? 3 : 1, values);
  return {};
}

bool is_alive(View* view) noexcept {
  if (!view->expired) return true;
  PyErr_Format(types.expired, "this %s is of a request that has been answered: what lasts longer must be a copy",
               std::strchr(Py_TYPE(view)->tp_name, '.') + 1);
  return false;
}

void pin(View* view) noexcept {
  Py_INCREF(object(view));
  ++view->pins;
}

void unpin(View* view) noexcept {
  if (--view->pins == 0 && view->expired) drop(view);
  Py_DECREF(object(view));
}

void expire(View* view) noexcept {
  view->expired = true;
  view->frame = nullptr;
  if (view->pins == 0) drop(view);
}

Ref gfid_text(const std::uint8_t* gfid) noexcept {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < gfid_size; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits[gfid[i] >> 4];
    text += digits[gfid[i] & 15];
  }
  return Ref::take(PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
}

Ref text_or_none(const char* text) noexcept {
  return text ? Ref::take(PyUnicode_DecodeFSDefault(text)) : Ref::borrow(Py_None);
}

bool to_item(PyObject* object, Item* item, Ref* keep) noexcept {
  if (PyLong_Check(object)) {
    int overflow = 0;
    item->type = item_signed;
    item->number = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow == 0) return true;
    item->type = item_unsigned;
    item->number = static_cast<std::int64_t>(PyLong_AsUnsignedLongLong(object));
    return PyErr_Occurred() == nullptr;
  }
  if (PyFloat_Check(object)) {
    item->type = item_real;
    item->real = PyFloat_AS_DOUBLE(object);
    return true;
  }
  if (PyUnicode_Check(object)) {
    item->type = item_text;
    *keep = Ref::take(PyUnicode_EncodeFSDefault(object));
  } else if (PyObject_CheckBuffer(object) != 0) {
    item->type = item_bytes;
    *keep = Ref::take(PyBytes_FromObject(object));
  } else {
    PyErr_Format(PyExc_TypeError, "a value: expected an int, float, str or bytes, got %s", describe(object).c_str());
    return false;
  }
  if (!*keep) return false;
  item->data = PyBytes_AS_STRING(keep->get());
  item->size = static_cast<std::size_t>(PyBytes_GET_SIZE(keep->get()));
  if (item->type == item_bytes || std::strlen(item->data) == item->size) return true;
  PyErr_SetString(PyExc_ValueError, "a value: expected a str without NUL characters");
  return false;
}

}  // namespace nbdkit_python::gluster
