// SPDX-License-Identifier: BSD-3-Clause
// How long a plugin takes for a callback, without a server, a socket or a client: this process is the nbdkit.
//
//     in_process PLUGIN.so [KEY=VALUE …] SECONDS CALLBACK[:SIZE] …
//
// It loads the plugin as nbdkit does and calls it from a thread of its own, as nbdkit does. For each callback it tells
// the nanoseconds of one call, the median over SECONDS.
#define NBDKIT_API_VERSION 2
#include <dlfcn.h>
#include <nbdkit-plugin.h>

#include <functional>
#include <map>
#include <thread>

#include "measure.hpp"

namespace {

using namespace benchmarks;

void must(bool good, const std::string& what) {
  if (!good) give_up(what + " has failed");
}

// A connection of a plugin, in the thread that made it.
class Connection {
 public:
  explicit Connection(const nbdkit_plugin& plugin) : plugin_{plugin}, handle_{plugin.open(0)} {
    must(handle_ != nullptr, "open");
    size_ = plugin.get_size(handle_);
    if (plugin.can_write != nullptr) must(plugin.can_write(handle_) >= 0, "can_write");
  }
  ~Connection() {
    if (plugin_.close != nullptr) plugin_.close(handle_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  double time(double seconds, const Subject& subject) {
    std::vector<char> memory(subject.size, 'x');
    char* const data = memory.data();
    const std::uint32_t count = subject.size;
    must(static_cast<std::int64_t>(count) <= size_, "a request beyond the disk");
    const nbdkit_plugin& p = plugin_;
    void* const h = handle_;
    nbdkit_extents* const extents = nullptr;  // nbdkit_add_extent() below has no use for it
    // An offset that is no small int, of which CPython has ready-made ones.
    const std::uint64_t offset = std::min<std::int64_t>(4096, size_ - count);
    const std::map<std::string, std::function<double()>> known = {
        {"pread", [&] { return timed(seconds, [&] { return p.pread(h, data, count, offset, 0); }); }},
        {"pwrite", [&] { return timed(seconds, [&] { return p.pwrite(h, data, count, offset, 0); }); }},
        {"flush", [&] { return timed(seconds, [&] { return p.flush(h, 0); }); }},
        {"trim", [&] { return timed(seconds, [&] { return p.trim(h, count, offset, 0); }); }},
        {"zero", [&] { return timed(seconds, [&] { return p.zero(h, count, offset, NBDKIT_FLAG_MAY_TRIM); }); }},
        {"cache", [&] { return timed(seconds, [&] { return p.cache(h, count, offset, 0); }); }},
        {"extents", [&] { return timed(seconds, [&] { return p.extents(h, count, offset, 0, extents); }); }},
        {"get_size", [&] { return timed(seconds, [&] { return p.get_size(h) > 0 ? 0 : -1; }); }},
        {"can_write", [&] { return timed(seconds, [&] { return p.can_write(h) - 1; }); }},
    };
    const auto found = known.find(subject.callback);
    if (found == known.end()) give_up("expected one of nbdkit's callbacks, got " + subject.callback);
    return found->second();
  }

 private:
  template <typename Function>
  double timed(double seconds, const Function& call) {
    must(call() == 0, "the callback");
    return time_of(seconds, call);
  }

  const nbdkit_plugin& plugin_;
  void* const handle_;
  std::int64_t size_ = 0;
};

void configure(const nbdkit_plugin& p, const std::vector<std::string>& parameters) {
  if (p.load != nullptr) p.load();
  for (const std::string& parameter : parameters) {
    const auto equals = parameter.find('=');
    if (equals == parameter.npos) give_up("expected KEY=VALUE, got " + parameter);
    // nbdkit keeps them for as long as it lives.
    const auto* const value = new std::string{parameter.substr(equals + 1)};
    const auto* const key = new std::string{parameter.substr(0, equals)};
    must(p.config(key->c_str(), value->c_str()) == 0, parameter);
  }
  if (p.config_complete != nullptr) must(p.config_complete() == 0, "config_complete");
  if (p.thread_model != nullptr) must(p.thread_model() >= 0, "thread_model");
  if (p.get_ready != nullptr) must(p.get_ready() == 0, "get_ready");
  if (p.after_fork != nullptr) must(p.after_fork() == 0, "after_fork");
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments given = arguments(argc, argv, "usage: in_process PLUGIN.so [KEY=VALUE …] SECONDS CALLBACK[:SIZE] …");
  // What a plugin does not call need not be here.
  void* const library = dlopen(given.settings[0].c_str(), RTLD_LAZY | RTLD_GLOBAL);
  if (library == nullptr) give_up(dlerror());
  const auto init = reinterpret_cast<nbdkit_plugin* (*)()>(dlsym(library, "plugin_init"));
  if (init == nullptr) give_up(dlerror());
  const nbdkit_plugin& plugin = *init();
  configure(plugin, {given.settings.begin() + 1, given.settings.end()});
  std::thread{[&] {
    Connection connection{plugin};
    for (const Subject& subject : given.subjects) tell(subject, connection.time(given.seconds, subject));
  }}.join();
  if (plugin.cleanup != nullptr) plugin.cleanup();
  if (plugin.unload != nullptr) plugin.unload();
}
