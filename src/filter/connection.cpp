// SPDX-License-Identifier: BSD-3-Clause
// A connection: a layer for each translator, and nbdkit's next at the bottom; its start and its end.
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "layer.hpp"
#include "next.hpp"

namespace nbdkit_python::filter {
namespace {

class Connection {
 public:
  Connection(nbdkit_next_open* next, nbdkit_context* context, bool is_tls) noexcept
      : next_{next}, context_{context}, is_tls_{is_tls} {
    // The last one is at the bottom.
    Level* below = &bottom_;
    for (std::size_t i = translators.size(); i-- > 0; below = layers_.back().get())
      layers_.push_back(std::make_unique<Layer>(translators[i], *below));
  }

  Level& top() noexcept { return layers_.empty() ? static_cast<Level&>(bottom_) : *layers_.back(); }

  // From the client's side down, as far as a translator does not say otherwise; false: it is closed again.
  bool open(bool readonly, const std::string& export_name) noexcept {
    return open(layers_.size(), readonly, export_name);
  }
  int prepare(nbdkit_next* next) noexcept;
  int finalize() noexcept;
  void close() noexcept { close(layers_.size()); }

 private:
  // Opens the lowest `count` layers, and nbdkit's next.
  bool open(std::size_t count, bool readonly, const std::string& export_name) noexcept;
  void close(std::size_t count) noexcept;
  // As close(), and nbdkit's next too: it may be opened again.
  void undo(std::size_t count) noexcept;

  nbdkit_next_open* const next_;
  nbdkit_context* const context_;
  const bool is_tls_;
  Bottom bottom_;
  std::vector<std::unique_ptr<Layer>> layers_;  // from the bottom up
};

bool Connection::open(std::size_t count, bool readonly, const std::string& export_name) noexcept {
  if (count == 0) return next_(context_, readonly ? 1 : 0, export_name.c_str()) == 0;
  Layer& layer = *layers_[count - 1];
  if (!layer.translator().has(id::open)) {
    if (!open(count - 1, readonly, export_name)) return false;
    layer.opened({}, readonly);
    return true;
  }
  enum { untried, opened, failed } below = untried;
  const auto open_below = [&](bool r, const std::string& name) {
    const Detach others_run;
    below = open(count - 1, r, name) ? opened : failed;
  };
  const Turn turn;
  Call call{*layer.translator().script, id::open};
  PassingBy passing{"open", [&](Arguments& arguments) -> Ref {
                      bool r = readonly;
                      std::string name = export_name;
                      if (!arguments.take("readonly", r) || !arguments.take("export_name", name) || !arguments.done())
                        return {};
                      if (below == opened) return raise_misuse("open", "what is below is open already"), Ref{};
                      open_below(r, name);
                      if (below == failed) return raise_failed("open", EIO), Ref{};
                      return Ref::borrow(Py_None);
                    }};
  const Next next{call, passing};
  Ref handle = call.invoke(next.get(), readonly, export_name.c_str(), is_tls_);
  if (handle && to_nothing(handle.get())) {
    if (below == untried) open_below(readonly, export_name);
    layer.opened(std::move(handle), readonly);
    if (below == opened) return true;
    layer.close();
    return false;
  }
  call.fail();
  if (below == opened) {
    const Detach others_run;
    undo(count - 1);
  }
  return false;
}

void Connection::close(std::size_t count) noexcept {
  while (count-- > 0) layers_[count]->close();
}

void Connection::undo(std::size_t count) noexcept {
  close(count);
  nbdkit_next_context_close(nbdkit_context_set_next(context_, nullptr));
}

int Connection::prepare(nbdkit_next* next) noexcept {
  bottom_.set(next);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i]->prepare()) continue;
    // nbdkit will not ask for it.
    while (i-- > 0) layers_[i]->finalize();
    return -1;
  }
  return 0;
}

int Connection::finalize() noexcept {
  for (std::size_t i = layers_.size(); i-- > 0;)
    if (!layers_[i]->finalize()) return -1;
  return 0;
}

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

int prepare(nbdkit_next* next, void* handle, int) noexcept { return static_cast<Connection*>(handle)->prepare(next); }
int finalize(nbdkit_next*, void* handle) noexcept { return static_cast<Connection*>(handle)->finalize(); }
Level& top(void* handle) noexcept { return static_cast<Connection*>(handle)->top(); }

}  // namespace nbdkit_python::filter
