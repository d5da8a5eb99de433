// SPDX-License-Identifier: BSD-3-Clause
// The fields of a file operation: its arguments or its answer, as GlusterFS's values and as Python's objects.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "graph.h"
#include "nbdkit_python/ref.hpp"

namespace nbdkit_python::gluster {

struct Frame;
struct View;

using Fields = std::span<const Field>;

inline Fields arguments_of(int fop) noexcept {
  return {graph_fops[fop].arguments, static_cast<std::size_t>(graph_fops[fop].argument_count)};
}
inline Fields answer_of(int fop) noexcept {
  return {graph_fops[fop].answer, static_cast<std::size_t>(graph_fops[fop].answer_count)};
}

// Those that Python does not have: a vector's count and iobref come and go with it.
inline bool is_hidden(const Field& field) noexcept { return field.kind == kind_count || field.kind == kind_iobref; }
// How many Python has.
inline std::size_t visible(Fields fields) noexcept {
  return static_cast<std::size_t>(std::ranges::count_if(fields, std::not_fn(is_hidden)));
}

// Makes values the door's own, by a reference or a copy. False: no memory, and nothing is held.
inline bool hold(Fields fields, Value* values) noexcept {
  return graph_hold(fields.data(), static_cast<int>(fields.size()), values);
}
inline void drop(Fields fields, Value* held) noexcept {
  graph_drop(fields.data(), static_cast<int>(fields.size()), held);
}
// The same with one value, which is not data.
inline bool hold(Kind kind, Value* value) noexcept {
  const Field field{kind, ""};
  return graph_hold(&field, 1, value);
}
inline void drop(Kind kind, Value held) noexcept {
  const Field field{kind, ""};
  graph_drop(&field, 1, &held);
}

// Python's objects made of held values.
class [[nodiscard]] Incoming {
 public:
  // Takes the values over in any case.
  Incoming(Frame* frame, Fields fields, Value* held) noexcept;

  // False: Python's error indicator is set.
  explicit operator bool() const noexcept { return good_; }
  std::span<const Ref> objects() const noexcept { return {objects_.data(), count_}; }

 private:
  std::array<Ref, max_values> objects_;
  std::size_t count_ = 0;
  bool good_ = true;
};

// Values made of Python's objects, good until the end of the block. What returns false has set Python's error
// indicator.
class [[nodiscard]] Outgoing {
 public:
  //   verb: what the errors have before the file operation's name
  Outgoing(const char* verb, int fop) noexcept : verb_{verb}, fop_{fop} {}
  ~Outgoing();
  Outgoing(const Outgoing&) = delete;
  Outgoing& operator=(const Outgoing&) = delete;

  // The file operation's arguments; xdata, the last, may be left out.
  bool arguments(std::span<PyObject* const> objects) noexcept;
  // Its answer.
  //   needed: whether what GlusterFS relies on must be there: not in an answer that is an error
  bool answer(std::span<PyObject* const> objects, bool needed) noexcept;

  const Value* values() const noexcept { return values_.data(); }
  // What op_ret is where the answer itself tells: the bytes or entries in it; else -1.
  std::int64_t length() const noexcept { return length_; }

 private:
  bool fits(Fields fields, std::size_t count) const noexcept;
  bool fill(Fields fields, PyObject* const* objects, bool needed) noexcept;
  bool fill_one(Fields fields, std::size_t i, PyObject* object, bool needed) noexcept;

  // One field's value of this object, by the field's kind.
  bool number(Kind kind, PyObject* object, Value* value) noexcept;
  bool text(Kind kind, PyObject* object, Value* value) noexcept;
  bool checksum(PyObject* object, Value* value) noexcept;
  bool dict(PyObject* object, Value* value) noexcept;
  bool iatt(Kind kind, PyObject* object, bool needed, Value* value) noexcept;
  bool data(Fields fields, PyObject* object, Value* value) noexcept;
  bool entries(PyObject* object, Value* value) noexcept;
  bool plain(Kind kind, PyObject* object, Value* value) noexcept;
  bool view(Kind kind, PyObject* object, Value* value) noexcept;

  // Pins the view. False: it has expired.
  bool use(View* view) noexcept;
  // Raises a TypeError on the field.
  bool wrong(const char* expected, PyObject* got) const noexcept;
  Value* find(Fields fields, Kind kind) noexcept;

  const char* const verb_;
  const int fop_;
  const char* field_ = "";  // the one that is filled
  std::array<Value, max_values> values_{};
  std::array<std::array<std::uint64_t, 24>, 5> iatts_;  // room for as many as an answer has
  std::size_t iatt_count_ = 0;
  struct iovec vector_ {};
  std::array<std::uint8_t, checksum_size> checksum_{};
  std::int64_t length_ = -1;
  std::vector<View*> used_;                  // pinned
  std::vector<Ref> kept_;                    // what the values point into
  std::vector<std::pair<Kind, Value>> own_;  // to be dropped
};

}  // namespace nbdkit_python::gluster
