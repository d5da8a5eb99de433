// SPDX-License-Identifier: BSD-3-Clause
// Stack: a layer for each translator, and nbdkit's next at the bottom; from its opening to its closing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "layer.hpp"

namespace nbdkit_python::filter {

class Stack {
 public:
  // The translators from this one on.
  Stack(std::size_t first, bool is_tls) noexcept;
  virtual ~Stack() = default;
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  Level& top() noexcept {
    if (layers_.empty()) return bottom_;
    return *layers_.back();
  }

  // From the top down, as far as a translator does not say otherwise; false: all of it is closed again.
  bool open(bool readonly, const std::string& export_name) noexcept {
    return open(layers_.size(), readonly, export_name);
  }
  // From the bottom up. False: what has been prepared is finalized again.
  bool prepare(nbdkit_next* next) noexcept;
  // From the top down.
  bool finalize() noexcept;
  // As finalize, but for nbdkit's next.
  void close() noexcept { close(layers_.size()); }

 private:
  // The lowest `count` layers.
  bool open(std::size_t count, bool readonly, const std::string& export_name) noexcept;
  void close(std::size_t count) noexcept;

  virtual bool open_bottom(bool readonly, const char* export_name) noexcept = 0;
  // So that it may be opened again.
  virtual void close_bottom() noexcept = 0;

  const bool is_tls_;
  Bottom bottom_;
  std::vector<std::unique_ptr<Layer>> layers_;  // from the bottom up
};

}  // namespace nbdkit_python::filter
