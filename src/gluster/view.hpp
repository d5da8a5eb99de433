// SPDX-License-Identifier: BSD-3-Clause
// View: Python's object for one of GlusterFS's, which is held until the request that it came with has been answered.
#pragma once

#include <vector>

#include "door.hpp"
#include "nbdkit_python/type.hpp"

namespace nbdkit_python::gluster {

struct Frame;

// What a view holds.
struct Held {
  Kind kind;  // kind_dirents: one entry, not a list of them
  Value value;
  Value count{};  // these two: of data
  Value iobref{};
};

struct View {
  PyObject_HEAD Frame* frame;  // null: expired, or the script's own
  View* after;                 // these two: in the frame's list
  View** place;
  Instance* instance;  // null: the script's own
  unsigned pins;       // uses that must end before what it holds can go
  bool expired;        // to use it is an error
  Held held;
  PyObject* joined;  // data of several buffers, as one
};

inline View* view_of(PyObject* object) noexcept { return reinterpret_cast<View*>(object); }

// view.cpp

// A view that takes over what is held, in any case.
Ref make_view(Frame* frame, const Held& held) noexcept;
// A view of what is in another one; None for null.
Ref make_inner_view(const View* view, Kind kind, Value value) noexcept;
// Whether it can still be used. False: Python's error indicator is set.
bool is_alive(const View* view) noexcept;
void pin(View* view) noexcept;
void unpin(View* view) noexcept;
// Of one that has expired: takes it off its frame's list, and lets what it holds go; or, if it is pinned, with the last
// pin.
void let_go(View* view) noexcept;

// The type of views of this kind.
PyTypeObject* view_type(Kind kind) noexcept;
// What all of them have is in it.
PyTypeObject* make_view_type(const char* name, const char* doc, unsigned long flags,
                             std::vector<PyType_Slot> slots) noexcept;

// A getter of a view that is alive.
template <Ref (*get)(const View*) noexcept>
PyObject* getter(PyObject* self, void*) noexcept {
  const View* const view = view_of(self);
  return is_alive(view) ? get(view).release() : nullptr;
}

// repr(), with what tells this view from others of its type.
template <Ref (*text)(const View*) noexcept>
PyObject* shown(PyObject* self) noexcept {
  const char* const type = Py_TYPE(self)->tp_name;
  if (view_of(self)->expired) return PyUnicode_FromFormat("<%s, expired>", type);
  const Ref which = text(view_of(self));
  return which ? PyUnicode_FromFormat("<%s %S>", type, which.get()) : nullptr;
}

// A name for repr(): quoted, since it can be of any bytes, and should end no line of a log.
inline Ref quoted(const Ref& name) noexcept { return name ? Ref::take(PyObject_Repr(name.get())) : Ref{}; }

// A glusterfs.Gfid.
Ref gfid_text(const std::uint8_t* gfid) noexcept;
// The gfid of such a str. False: it is none; Python's error indicator is not set.
bool parse_gfid(PyObject* object, std::uint8_t* gfid) noexcept;
// A str for GlusterFS's text, which can be of any bytes; None for null.
Ref text_or_none(const char* text) noexcept;

PyTypeObject* make_loc_type() noexcept;
PyTypeObject* make_fd_type() noexcept;
PyTypeObject* make_inode_type() noexcept;
PyTypeObject* make_locks_type() noexcept;

// dict.cpp

PyTypeObject* make_dict_type() noexcept;
// Sets a key of a script's, a str, to this value: an int, float, bool, str or bytes-like. False: Python's error
// indicator is set.
bool set_item(dict_t* dict, PyObject* key, PyObject* value) noexcept;

// data.cpp, dirent.cpp

PyTypeObject* make_data_type() noexcept;
PyTypeObject* make_dirent_type() noexcept;

}  // namespace nbdkit_python::gluster
