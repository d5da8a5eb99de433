// SPDX-License-Identifier: BSD-3-Clause
// How long a filter takes for a request, without a server, a socket or a client: this process is the nbdkit, and the
// plugin, whose disk is memory.
//
//     in_process_filter FILTER.so [KEY=VALUE …] SECONDS REQUEST[:SIZE] …
//
// FILTER.so may be `none`: what the disk alone takes. For each request, which is pread, pwrite or flush, it tells the
// nanoseconds of one call, the median over SECONDS.
#define NBDKIT_API_VERSION 2
#include <dlfcn.h>
#include <nbdkit-filter.h>

#include <cstring>
#include <functional>
#include <map>
#include <thread>

#include "measure.hpp"

namespace {

using namespace benchmarks;

constexpr std::int64_t size = 64 << 20;
char disk[size];

int yes(nbdkit_next*) { return 1; }
int two(nbdkit_next*) { return 2; }

nbdkit_next_ops ops() {
  nbdkit_next_ops o{};
  o.get_size = [](nbdkit_next*) { return size; };
  o.can_write = o.can_flush = o.can_trim = o.can_extents = o.can_multi_conn = yes;
  o.is_rotational = o.can_fast_zero = [](nbdkit_next*) { return 0; };
  o.can_zero = o.can_fua = o.can_cache = two;
  o.pread = [](nbdkit_next*, void* buf, uint32_t count, uint64_t offset, uint32_t, int*) {
    std::memcpy(buf, disk + offset, count);
    return 0;
  };
  o.pwrite = [](nbdkit_next*, const void* buf, uint32_t count, uint64_t offset, uint32_t, int*) {
    std::memcpy(disk + offset, buf, count);
    return 0;
  };
  o.flush = [](nbdkit_next*, uint32_t, int*) { return 0; };
  return o;
}

void must(bool good, const std::string& what) {
  if (!good) give_up(what + " has failed");
}

void configure(const nbdkit_filter& f, const std::vector<std::string>& parameters) {
  if (f.load != nullptr) f.load();
  for (const std::string& parameter : parameters) {
    const auto equals = parameter.find('=');
    if (equals == parameter.npos) give_up("expected KEY=VALUE, got " + parameter);
    const auto refuse = [](nbdkit_backend*, const char*, const char*) { return -1; };
    must(f.config(refuse, nullptr, parameter.substr(0, equals).c_str(), parameter.substr(equals + 1).c_str()) == 0,
         parameter);
  }
  const auto complete = [](nbdkit_backend*) { return 0; };
  if (f.config_complete != nullptr) must(f.config_complete(complete, nullptr) == 0, "config_complete");
  if (f.get_ready != nullptr) must(f.get_ready(NBDKIT_THREAD_MODEL_PARALLEL) == 0, "get_ready");
  if (f.after_fork != nullptr) must(f.after_fork(nullptr) == 0, "after_fork");
}

}  // namespace

// The least of nbdkit's functions for filters; the others are in nbdkit.cpp.
extern "C" NBDKIT_DLL_PUBLIC void nbdkit_exports_free(nbdkit_exports*) {}

int main(int argc, char** argv) {
  const Arguments given =
      arguments(argc, argv, "usage: in_process_filter FILTER.so [KEY=VALUE …] SECONDS REQUEST[:SIZE] …");
  nbdkit_next_ops below = ops();
  nbdkit_next* const next = &below;
  nbdkit_filter f{};
  if (given.settings[0] != "none") {
    void* const library = dlopen(given.settings[0].c_str(), RTLD_LAZY);
    if (library == nullptr) give_up(dlerror());
    f = *reinterpret_cast<nbdkit_filter* (*)()>(dlsym(library, "filter_init"))();
    configure(f, {given.settings.begin() + 1, given.settings.end()});
  }
  std::thread{[&] {
    void* handle = nullptr;
    const auto open = [](nbdkit_context*, int, const char*) { return 0; };
    if (f.open != nullptr) must((handle = f.open(open, nullptr, 0, "", 0)) != nullptr, "open");
    if (f.prepare != nullptr) must(f.prepare(next, handle, 0) == 0, "prepare");
    if (f.get_size != nullptr) must(f.get_size(next, handle) == size, "get_size");
    for (const Subject& subject : given.subjects) {
      std::vector<char> memory(subject.size, 'x');
      char* const data = memory.data();
      const std::uint32_t count = subject.size;
      constexpr std::uint64_t offset = 4096;
      int err = 0;
      const std::map<std::string, std::function<int()>> known = {
          {"pread",
           [&] {
             return f.pread ? f.pread(next, handle, data, count, offset, 0, &err)
                            : next->pread(next, data, count, offset, 0, &err);
           }},
          {"pwrite",
           [&] {
             return f.pwrite ? f.pwrite(next, handle, data, count, offset, 0, &err)
                             : next->pwrite(next, data, count, offset, 0, &err);
           }},
          {"flush", [&] { return f.flush ? f.flush(next, handle, 0, &err) : next->flush(next, 0, &err); }},
      };
      const auto found = known.find(subject.callback);
      if (found == known.end()) give_up("expected pread, pwrite or flush, got " + subject.callback);
      must(found->second() == 0, subject.word);
      tell(subject, time_of(given.seconds, found->second));
    }
    if (f.finalize != nullptr) f.finalize(next, handle);
    if (f.close != nullptr) f.close(handle);
  }}.join();
  if (f.cleanup != nullptr) f.cleanup(nullptr);
  if (f.unload != nullptr) f.unload();
}
