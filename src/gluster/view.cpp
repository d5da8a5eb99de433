// SPDX-License-Identifier: BSD-3-Clause
// The life of views, and the plain ones: Loc, Fd, Inode, Locks.
//
// Each holds its object by a reference or a copy of its own, until the request that it came with has been answered.
// Then it expires: what it holds is let go, and to use it is an error. So a script that keeps one reads nothing that is
// not there any more, and keeps no file open.
#include "view.hpp"

#include <cstring>
#include <string>
#include <string_view>

#include "fields.hpp"
#include "frame.hpp"

namespace nbdkit_python::gluster {

namespace {

void drop_held(const Held& held) noexcept {
  if (held.value.text == nullptr) return;
  if (held.kind == kind_dirents) return graph_dirent_free(held.value.dirents);
  const Field fields[] = {{held.kind, ""}, {kind_count, ""}, {kind_iobref, ""}};
  Value values[] = {held.value, held.count, held.iobref};
  drop(Fields{fields, held.kind == kind_vector ? std::size(fields) : 1}, values);
}

// Takes it out of its frame's list.
void leave(View* view) noexcept {
  if (view->frame == nullptr) return;
  *view->place = view->after;
  if (view->after != nullptr) view->after->place = view->place;
  view->frame = nullptr;
}

void dealloc(PyObject* self) noexcept {
  let_go(view_of(self));
  deallocate(self);
}

// Loc

LocFacts facts_of_loc(const View* view) noexcept {
  LocFacts facts;
  graph_loc(view->held.value.loc, &facts);
  return facts;
}

Ref loc_path(const View* view) noexcept { return text_or_none(facts_of_loc(view).path); }
Ref loc_text(const View* view) noexcept { return quoted(loc_path(view)); }
Ref loc_name(const View* view) noexcept { return text_or_none(facts_of_loc(view).name); }
Ref loc_gfid(const View* view) noexcept { return gfid_text(facts_of_loc(view).gfid); }
Ref loc_pargfid(const View* view) noexcept { return gfid_text(facts_of_loc(view).pargfid); }
Ref loc_inode(const View* view) noexcept {
  return make_inner_view(view, kind_inode, {.inode = facts_of_loc(view).inode});
}
Ref loc_parent(const View* view) noexcept {
  return make_inner_view(view, kind_inode, {.inode = facts_of_loc(view).parent});
}

PyGetSetDef loc_getters[] = {
    {"path", getter<loc_path>, nullptr, "Where it is in the volume, as far as GlusterFS knows, or None.", nullptr},
    {"name", getter<loc_name>, nullptr, "The last part of path, or None.", nullptr},
    {"inode", getter<loc_inode>, nullptr, "Its Inode, or None.", nullptr},
    {"parent", getter<loc_parent>, nullptr, "The Inode of the folder that it is in, or None.", nullptr},
    {"gfid", getter<loc_gfid>, nullptr, "Its gfid, a str; zeros where it has none yet.", nullptr},
    {"pargfid", getter<loc_pargfid>, nullptr, "The gfid of the folder that it is in.", nullptr},
    {}};

// Fd and Inode

FdFacts facts_of_fd(const View* view) noexcept {
  FdFacts facts;
  graph_fd(view->held.value.fd, &facts);
  return facts;
}

Ref fd_inode(const View* view) noexcept {
  return make_inner_view(view, kind_inode, {.inode = facts_of_fd(view).inode});
}
Ref fd_flags(const View* view) noexcept { return Ref::take(PyLong_FromLong(facts_of_fd(view).flags)); }
Ref fd_pid(const View* view) noexcept { return Ref::take(PyLong_FromUnsignedLongLong(facts_of_fd(view).pid)); }
Ref fd_anonymous(const View* view) noexcept { return Ref::borrow(facts_of_fd(view).anonymous ? Py_True : Py_False); }
Ref fd_text(const View* view) noexcept { return gfid_text(graph_inode_gfid(facts_of_fd(view).inode)); }

Ref inode_gfid(const View* view) noexcept { return gfid_text(graph_inode_gfid(view->held.value.inode)); }
Ref inode_type(const View* view) noexcept {
  return Ref::take(PyLong_FromLong(graph_inode_type(view->held.value.inode)));
}

std::uint64_t context_number(const View* view) noexcept {
  const Held& held = view->held;
  xlator_t* const xl = view->instance->xl;
  return held.kind == kind_fd ? graph_fd_context(held.value.fd, xl) : graph_inode_context(held.value.inode, xl);
}

bool set_context_number(const View* view, std::uint64_t number) noexcept {
  const Held& held = view->held;
  xlator_t* const xl = view->instance->xl;
  return held.kind == kind_fd ? graph_set_fd_context(held.value.fd, xl, number)
                              : graph_set_inode_context(held.value.inode, xl, number);
}

Ref context(const View* view) noexcept { return Ref::borrow(view->instance->contexts.get(context_number(view))); }

int set_context(PyObject* self, PyObject* object, void*) noexcept {
  const View* const view = view_of(self);
  if (!is_alive(view)) return -1;
  Contexts& contexts = view->instance->contexts;
  if (object == nullptr) object = Py_None;
  if (const std::uint64_t number = context_number(view); number != 0) {
    contexts.set(number, object);
    return 0;
  }
  const std::uint64_t number = contexts.add(object);
  if (set_context_number(view, number)) return 0;
  contexts.forget(number);
  PyErr_NoMemory();
  return -1;
}

#define CONTEXT \
  { "ctx", getter<context>, set_context, "What this translator has noted here: any object, or None.", nullptr }

PyGetSetDef fd_getters[] = {
    {"inode", getter<fd_inode>, nullptr, "The Inode that is open.", nullptr},
    {"flags", getter<fd_flags>, nullptr, "How it was opened: os.O_RDWR and so on.", nullptr},
    {"pid", getter<fd_pid>, nullptr, "The process that opened it.", nullptr},
    {"anonymous", getter<fd_anonymous>, nullptr, "Whether nobody has opened it, and it is for one request.", nullptr},
    CONTEXT,
    {}};
PyGetSetDef inode_getters[] = {
    {"gfid", getter<inode_gfid>, nullptr, "Its gfid, a str.", nullptr},
    {"type", getter<inode_type>, nullptr, "What it is: glusterfs.IA_IFREG and so on.", nullptr},
    CONTEXT,
    {}};

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

PyObject* locks_text(PyObject* self) noexcept {
  return PyUnicode_FromFormat(view_of(self)->expired ? "<%s, expired>" : "<%s>", Py_TYPE(self)->tp_name);
}

}  // namespace

Ref make_view(Frame* frame, const Held& held) noexcept {
  Ref self = allocate(view_type(held.kind));
  if (!self) {
    drop_held(held);
    return {};
  }
  View* const view = view_of(self.get());
  view->frame = frame;
  view->instance = frame->instance;
  view->held = held;
  view->after = frame->views;
  view->place = &frame->views;
  if (view->after != nullptr) view->after->place = &view->after;
  frame->views = view;
  return self;
}

Ref make_inner_view(const View* view, Kind kind, Value value) noexcept {
  if (value.text == nullptr) return Ref::borrow(Py_None);
  if (!hold(kind, &value)) return PyErr_NoMemory(), Ref{};
  return make_view(view->frame, {kind, value});
}

bool is_alive(const View* view) noexcept {
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
  --view->pins;
  if (view->expired) let_go(view);
  Py_DECREF(object(view));
}

void let_go(View* view) noexcept {
  leave(view);
  if (view->pins > 0) return;
  drop_held(view->held);
  view->held.value = view->held.iobref = {};
  Py_CLEAR(view->joined);
}

PyTypeObject* view_type(Kind kind) noexcept {
  switch (kind) {
    case kind_loc:
      return types.loc;
    case kind_fd:
      return types.fd;
    case kind_inode:
      return types.inode;
    case kind_locks:
      return types.locks;
    case kind_dict:
      return types.dict;
    case kind_dirents:
      return types.dirent;
    default:
      return types.data;
  }
}

PyTypeObject* make_view_type(const char* name, const char* doc, unsigned long flags,
                             std::vector<PyType_Slot> slots) noexcept {
  slots.push_back({Py_tp_dealloc, slot(dealloc)});
  return make_type(name, doc, sizeof(View), flags, std::move(slots));
}

// Made as str itself makes it, since what GlusterFS has needs no look.
Ref gfid_text(const std::uint8_t* gfid) noexcept {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < gfid_size; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits[gfid[i] >> 4];
    text += digits[gfid[i] & 15];
  }
  const Ref arguments = Ref::take(Py_BuildValue("(s)", text.c_str()));
  return arguments ? Ref::take(PyUnicode_Type.tp_new(types.gfid, arguments.get(), nullptr)) : Ref{};
}

bool parse_gfid(PyObject* object, std::uint8_t* gfid) noexcept {
  std::size_t digits = 0;
  Py_ssize_t size = 0;
  const char* const text =
      object != nullptr && PyUnicode_Check(object) ? PyUnicode_AsUTF8AndSize(object, &size) : nullptr;
  PyErr_Clear();
  for (const char c : std::string_view{text, text != nullptr ? static_cast<std::size_t>(size) : 0}) {
    if (c == '-') continue;
    const int digit = hex_digit(c);
    if (digit == -1 || digits == std::size_t{2} * gfid_size) return false;
    gfid[digits / 2] = static_cast<std::uint8_t>(gfid[digits / 2] << 4 | digit);
    ++digits;
  }
  return digits == std::size_t{2} * gfid_size;
}

Ref text_or_none(const char* text) noexcept {
  return text ? Ref::take(PyUnicode_DecodeFSDefault(text)) : Ref::borrow(Py_None);
}

PyTypeObject* make_loc_type() noexcept {
  return make_view_type("glusterfs.Loc", "Where in the volume a file operation works.", no_constructor,
                        {{Py_tp_getset, loc_getters}, {Py_tp_repr, slot(shown<loc_text>)}});
}

PyTypeObject* make_fd_type() noexcept {
  return make_view_type("glusterfs.Fd", "An open file or folder.", no_constructor,
                        {{Py_tp_getset, fd_getters}, {Py_tp_repr, slot(shown<fd_text>)}});
}

PyTypeObject* make_inode_type() noexcept {
  return make_view_type("glusterfs.Inode", "A file, folder or other, whatever its names.", no_constructor,
                        {{Py_tp_getset, inode_getters}, {Py_tp_repr, slot(shown<inode_gfid>)}});
}

PyTypeObject* make_locks_type() noexcept {
  return make_view_type("glusterfs.Locks", "Locks on their way from one brick to another.", no_constructor,
                        {{Py_tp_repr, slot(locks_text)}});
}

}  // namespace nbdkit_python::gluster
