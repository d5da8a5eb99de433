// SPDX-License-Identifier: BSD-3-Clause
// The objects that a script has noted, and those that GlusterFS has forgotten.
#include "contexts.hpp"

#include <utility>

namespace nbdkit_python::gluster {

PyObject* Contexts::get(std::uint64_t number) const noexcept {
  const auto found = objects_.find(number);
  return found != objects_.end() ? found->second.get() : Py_None;
}

std::uint64_t Contexts::add(PyObject* object) noexcept {
  objects_.emplace(++last_, Ref::borrow(object));
  return last_;
}

void Contexts::set(std::uint64_t number, PyObject* object) noexcept { objects_[number] = Ref::borrow(object); }

void Contexts::sweep() noexcept {
  if (!any_forgotten_) return;
  std::vector<std::uint64_t> numbers;
  {
    const std::lock_guard lock{mutex_};
    numbers.swap(forgotten_);
    any_forgotten_ = false;
  }
  for (const std::uint64_t number : numbers) {
    // Out of the table first: to let an object go can run the script's code.
    const auto gone = objects_.extract(number);
  }
}

void Contexts::clear() noexcept { const auto gone = std::exchange(objects_, {}); }

void Contexts::forget(std::uint64_t number) noexcept {
  const std::lock_guard lock{mutex_};
  forgotten_.push_back(number);
  any_forgotten_ = true;
}

}  // namespace nbdkit_python::gluster
