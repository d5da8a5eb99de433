// SPDX-License-Identifier: BSD-3-Clause
// The operations of what is below, as Python's methods.
//
// While such an operation runs, the thread has let go of Python: the operation may wait, and may come back to Python in
// this thread, in a translator further down or in a disk.
#include <cerrno>
#include <cstring>

#include "arguments.hpp"
#include "nbdkit_python/error.hpp"
#include "next.hpp"
#include "object.hpp"

namespace nbdkit_python::filter {

Object* usable(PyObject* self, const char* method) noexcept {
  auto* const next = reinterpret_cast<Object*>(self);
  if (next->call != nullptr && next->call == Call::current()) [[likely]]
    return next;
  raise(PyExc_RuntimeError, method,
        next->call == nullptr ? "the call that this next was for is over: each call of a callback gets its own"
                              : "this next is for another call: it cannot be used in other threads or callbacks");
  return nullptr;
}

Object* usable_in_background(PyObject* self, const char* method) noexcept {
  auto* const next = reinterpret_cast<Object*>(self);
  // Asked first: Python may run meanwhile, and close it.
  const char* reason = Background::forbidden();
  if (next->background == nullptr) reason = "it is closed";
  if (reason == nullptr) return next;
  PyErr_SetString(PyExc_RuntimeError, ("nbdkit.Background." + std::string{method} + ": " + reason).c_str());
  return nullptr;
}

namespace {

Object* connected(PyObject* self, const char* method) noexcept {
  if (reinterpret_cast<Object*>(self)->in_background) return usable_in_background(self, method);
  Object* const next = usable(self, method);
  if (next == nullptr || next->below != nullptr) return next;
  raise(PyExc_RuntimeError, method,
        std::string{"not in "} + next->call->name() + ": the disk can be used from prepare to finalize");
  return nullptr;
}

// Of an ability: NBDKIT_ZERO_NONE and the like, or a truth value.
bool is_level(Ability ability) noexcept {
  return ability == Ability::can_zero || ability == Ability::can_fua || ability == Ability::can_cache;
}

template <Ability ability>
PyObject* ask(PyObject* self, PyObject*) noexcept {
  static constexpr const char* names[] = {"can_write",      "can_flush",     "is_rotational", "can_trim",
                                          "can_zero",       "can_fast_zero", "can_extents",   "can_fua",
                                          "can_multi_conn", "can_cache"};
  const char* const name = names[static_cast<std::size_t>(ability)];
  Object* const next = connected(self, name);
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  int answer = level->known(ability);
  if (answer == -1) {
    const Background::Use use{next->background};
    answer = level->able(ability);
  }
  if (answer == -1) return raise_failed(name, EIO), nullptr;
  return is_level(ability) ? PyLong_FromLong(answer) : PyBool_FromLong(answer);
}

PyObject* get_size(PyObject* self, PyObject*) noexcept {
  Object* const next = connected(self, "get_size");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  std::int64_t size = level->known_size();
  if (size == -1) {
    const Background::Use use{next->background};
    size = level->size();
  }
  if (size == -1) return raise_failed("get_size", EIO), nullptr;
  return PyLong_FromLongLong(size);
}

PyObject* export_description(PyObject* self, PyObject*) noexcept {
  Object* const next = connected(self, "export_description");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  const char* text = nullptr;
  {
    const Background::Use use{next->background};
    text = level->export_description();
  }
  if (text == nullptr) Py_RETURN_NONE;
  return PyUnicode_DecodeFSDefault(text);
}

PyObject* block_size(PyObject* self, PyObject*) noexcept {
  Object* const next = connected(self, "block_size");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  std::uint32_t minimum = 0, preferred = 0, maximum = 0;
  int done = 0;
  {
    const Background::Use use{next->background};
    done = level->block_size(&minimum, &preferred, &maximum);
  }
  if (done == -1) return raise_failed("block_size", EIO), nullptr;
  return Py_BuildValue("III", minimum, preferred, maximum);
}

// Makes a request of what is below, if it may be used and nothing is wrong with that: 0, or -1 and the error indicator
// is set. It is looked at here, and not before the arguments are: their conversion may run Python, which may close it.
template <typename Make>
int request(PyObject* self, const char* name, Request kind, std::uint32_t count, std::uint64_t offset,
            std::uint32_t flags, const Make& make) noexcept {
  Object* const next = connected(self, name);
  if (next == nullptr) return -1;
  std::optional<std::string> fault;
  int err = 0;
  int done = -1;
  {
    Level& level = *next->below;
    const Background::Use use{next->background};
    fault = level.fault(kind, count, offset, flags);
    if (!fault) done = make(level, &err);
  }
  if (fault)
    raise(PyExc_ValueError, name, *fault);
  else if (done == -1)
    raise_failed(name, err);
  return done;
}

// The memory of an object; released at the end of the block.
class Memory {
 public:
  Memory() noexcept = default;
  ~Memory() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // False: the error indicator is set.
  bool get(const char* method, PyObject* object, bool writable) noexcept {
    if (PyObject_GetBuffer(object, &view_, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) == -1) {
      view_.obj = nullptr;
      PyErr_Clear();
      raise(PyExc_TypeError, method,
            std::string{"buf: expected a contiguous "} +
                (writable ? "writable buffer, or a count" : "bytes-like object") + ", got " + describe(object));
      return false;
    }
    if (view_.len <= static_cast<Py_ssize_t>(most_data)) return true;
    raise(PyExc_ValueError, method,
          "buf: expected at most " + std::to_string(most_data) + " bytes, got " + std::to_string(view_.len));
    return false;
  }
  void* data() const noexcept { return view_.buf; }
  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(view_.len); }

 private:
  Py_buffer view_{};
};

// A new buffer of zeros; one that a disk leaves unfilled must not be somebody's data.
Ref zeros(std::uint32_t count) noexcept {
  Ref bytes = Ref::take(PyByteArray_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(count)));
  if (bytes) std::memset(PyByteArray_AS_STRING(bytes.get()), 0, count);
  return bytes;
}

PyObject* pread(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  Arguments arguments{"pread", values, given, names};
  std::uint64_t offset = 0;
  std::uint32_t flags = 0;
  PyObject* buf = arguments.take("buf");
  const bool named_count = buf == nullptr;
  if (named_count) buf = arguments.take("count");
  if (buf == nullptr) return arguments.missing("buf"), nullptr;
  if (!arguments.take("offset", offset) || !arguments.take_flags(flags) || !arguments.done()) return nullptr;
  Ref bytes;
  if (PyIndex_Check(buf) != 0 && PyObject_CheckBuffer(buf) == 0) {
    std::uint32_t count = 0;
    if (!arguments.to_number("count", buf, count)) return nullptr;
    if (count > most_data)
      return raise(PyExc_ValueError, "pread",
                   "expected at most " + std::to_string(most_data) + " bytes, got " + std::to_string(count)),
             nullptr;
    bytes = zeros(count);
    if (!bytes) return nullptr;
    buf = bytes.get();
  }
  Memory memory;
  if (!memory.get("pread", buf, true)) return nullptr;
  if (request(self, "pread", Request::pread, memory.size(), offset, flags, [&](Level& level, int* err) {
        return level.pread(memory.data(), memory.size(), offset, flags, err);
      }) == -1)
    return nullptr;
  if (bytes) return bytes.release();
  Py_RETURN_NONE;
}

PyObject* pwrite(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  Arguments arguments{"pwrite", values, given, names};
  std::uint64_t offset = 0;
  std::uint32_t flags = 0;
  PyObject* const buf = arguments.take("buf");
  if (buf == nullptr) return arguments.missing("buf"), nullptr;
  if (!arguments.take("offset", offset) || !arguments.take_flags(flags) || !arguments.done()) return nullptr;
  Memory memory;
  if (!memory.get("pwrite", buf, false)) return nullptr;
  if (request(self, "pwrite", Request::pwrite, memory.size(), offset, flags, [&](Level& level, int* err) {
        return level.pwrite(memory.data(), memory.size(), offset, flags, err);
      }) == -1)
    return nullptr;
  Py_RETURN_NONE;
}

PyObject* flush(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  Arguments arguments{"flush", values, given, names};
  std::uint32_t flags = 0;
  if (!arguments.take_flags(flags) || !arguments.done()) return nullptr;
  if (request(self, "flush", Request::flush, 0, 0, flags,
              [&](Level& level, int* err) { return level.flush(flags, err); }) == -1)
    return nullptr;
  Py_RETURN_NONE;
}

// Of a request that is about a range: count, offset, flags.
struct Range {
  std::uint32_t count = 0;
  std::uint64_t offset = 0;
  std::uint32_t flags = 0;

  bool take(Arguments& arguments) noexcept {
    return arguments.take("count", count) && arguments.take("offset", offset) && arguments.take_flags(flags) &&
           arguments.done();
  }
};

template <Request kind, int (Level::*method)(std::uint32_t, std::uint64_t, std::uint32_t, int*) noexcept>
PyObject* range(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  constexpr const char* name = kind == Request::trim ? "trim" : kind == Request::zero ? "zero" : "cache";
  Arguments arguments{name, values, given, names};
  Range r;
  if (!r.take(arguments)) return nullptr;
  if (request(self, name, kind, r.count, r.offset, r.flags,
              [&](Level& level, int* err) { return (level.*method)(r.count, r.offset, r.flags, err); }) == -1)
    return nullptr;
  Py_RETURN_NONE;
}

PyObject* extents(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  Arguments arguments{"extents", values, given, names};
  Range r;
  if (!r.take(arguments)) return nullptr;
  nbdkit_extents* found = nullptr;
  const int done = request(self, "extents", Request::extents, r.count, r.offset, r.flags, [&](Level& level, int* err) {
    found = nbdkit_extents_new(r.offset, r.offset + r.count);
    if (found == nullptr) return *err = ENOMEM, -1;
    return level.extents(r.count, r.offset, r.flags, found, err);
  });
  Ref list = done == 0 ? to_list(found) : Ref{};
  nbdkit_extents_free(found);
  return list.release();
}

}  // namespace

const std::array<PyMethodDef, 20> operations = {{
    {"get_size", get_size, METH_NOARGS, nullptr},
    {"export_description", export_description, METH_NOARGS, nullptr},
    {"block_size", block_size, METH_NOARGS, nullptr},
    {"can_write", ask<Ability::can_write>, METH_NOARGS, nullptr},
    {"can_flush", ask<Ability::can_flush>, METH_NOARGS, nullptr},
    {"is_rotational", ask<Ability::is_rotational>, METH_NOARGS, nullptr},
    {"can_trim", ask<Ability::can_trim>, METH_NOARGS, nullptr},
    {"can_zero", ask<Ability::can_zero>, METH_NOARGS, nullptr},
    {"can_fast_zero", ask<Ability::can_fast_zero>, METH_NOARGS, nullptr},
    {"can_extents", ask<Ability::can_extents>, METH_NOARGS, nullptr},
    {"can_fua", ask<Ability::can_fua>, METH_NOARGS, nullptr},
    {"can_multi_conn", ask<Ability::can_multi_conn>, METH_NOARGS, nullptr},
    {"can_cache", ask<Ability::can_cache>, METH_NOARGS, nullptr},
    {"pread", function(pread), fast, nullptr},
    {"pwrite", function(pwrite), fast, nullptr},
    {"flush", function(flush), fast, nullptr},
    {"trim", function(range<Request::trim, &Level::trim>), fast, nullptr},
    {"zero", function(range<Request::zero, &Level::zero>), fast, nullptr},
    {"extents", function(extents), fast, nullptr},
    {"cache", function(range<Request::cache, &Level::cache>), fast, nullptr},
}};

}  // namespace nbdkit_python::filter
