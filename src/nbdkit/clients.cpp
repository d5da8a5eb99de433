// SPDX-License-Identifier: BSD-3-Clause
// Counts the threads of connections, from preconnect to their end.
//
// Their end, since nbdkit looks into what it is about to free once more after the last callback of a connection.
#include "clients.hpp"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "nbdkit_python/attach.hpp"

namespace nbdkit_python::clients {
namespace {

struct Registry {
  std::mutex mutex;
  std::condition_variable left;
  unsigned count = 0;
  bool open = false;
};

// Never destroyed: threads may end while the process runs its exit handlers.
Registry& registry() noexcept {
  static auto* const instance = new Registry;
  return *instance;
}

struct Client {
  bool here = false;
  ~Client() {
    if (!here) return;
    Registry& r = registry();
    const std::lock_guard lock{r.mutex};
    --r.count;
    r.left.notify_all();
  }
};

thread_local Client client;

}  // namespace

void open() noexcept {
  Registry& r = registry();
  const std::lock_guard lock{r.mutex};
  r.open = true;
}

void arrive() noexcept {
  Registry& r = registry();
  {
    const std::lock_guard lock{r.mutex};
    if (r.open) {
      // A translator may call the next preconnect more than once.
      if (!std::exchange(client.here, true)) ++r.count;
      return;
    }
  }
  threads::stay();
}

void close() noexcept {
  Registry& r = registry();
  std::unique_lock lock{r.mutex};
  r.open = false;
  // Under nbdkit -s the one connection has the main thread, which is this one.
  const unsigned mine = client.here ? 1 : 0;
  r.left.wait(lock, [&] { return r.count == mine; });
}

}  // namespace nbdkit_python::clients
