// SPDX-License-Identifier: BSD-3-Clause
// A client's connection: the stack of all translators, on nbdkit's next of that connection.
#include <memory>
#include <mutex>
#include <unordered_set>

#include "stack.hpp"

namespace nbdkit_python::filter {
namespace {

class Connection final : public Stack {
 public:
  Connection(nbdkit_next_open* next, nbdkit_context* context, bool is_tls) noexcept
      : Stack{0, is_tls}, next_{next}, context_{context} {}

 private:
  bool open_bottom(bool readonly, const char* export_name) noexcept override {
    return next_(context_, readonly ? 1 : 0, export_name) == 0;
  }
  void close_bottom() noexcept override { nbdkit_next_context_close(nbdkit_context_set_next(context_, nullptr)); }

  nbdkit_next_open* const next_;
  nbdkit_context* const context_;
};

// Those that are open. Never destroyed: a server that fails to start calls exit().
struct {
  std::mutex& mutex = *new std::mutex;
  std::unordered_set<Connection*>& all = *new std::unordered_set<Connection*>;

  // Whose it is to close: nobody's twice.
  std::unique_ptr<Connection> take(Connection* connection) noexcept {
    const std::lock_guard lock{mutex};
    return std::unique_ptr<Connection>{all.erase(connection) == 1 ? connection : nullptr};
  }
  std::unique_ptr<Connection> take_any() noexcept {
    const std::lock_guard lock{mutex};
    if (all.empty()) return {};
    return std::unique_ptr<Connection>{all.extract(all.begin()).value()};
  }
} connections;

}  // namespace

void* open(nbdkit_next_open* next, nbdkit_context* context, int readonly, const char* export_name,
           int is_tls) noexcept {
  auto connection = std::make_unique<Connection>(next, context, is_tls != 0);
  if (!connection->open(readonly != 0, export_name)) return nullptr;
  const std::lock_guard lock{connections.mutex};
  return *connections.all.insert(connection.release()).first;
}

void close(void* handle) noexcept {
  if (const auto connection = connections.take(static_cast<Connection*>(handle))) connection->close();
}

void close_all() noexcept {
  while (const auto connection = connections.take_any()) connection->close();
}

int prepare(nbdkit_next* next, void* handle, int) noexcept {
  return static_cast<Connection*>(handle)->prepare(next) ? 0 : -1;
}
int finalize(nbdkit_next*, void* handle) noexcept { return static_cast<Connection*>(handle)->finalize() ? 0 : -1; }
Level& top(void* handle) noexcept { return static_cast<Connection*>(handle)->top(); }

}  // namespace nbdkit_python::filter
