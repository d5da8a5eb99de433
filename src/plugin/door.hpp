// SPDX-License-Identifier: BSD-3-Clause
// What the files of this door share: the table of callbacks, the script, and nbdkit's callbacks by their own names.
#pragma once

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>

#include "../nbdkit/steps.hpp"
#include "nbdkit_python/script.hpp"

namespace nbdkit_python::door {

namespace id {
enum : std::size_t {
#define CALLBACK(name, need, may_yield, v1, v2) name,
#include "callbacks.def"
#undef CALLBACK
};
}  // namespace id

constexpr Callback callbacks[] = {
#define CALLBACK(name, need, may_yield, v1, v2) {#name, Callback::Need::need, may_yield, v1, v2},
#include "callbacks.def"
#undef CALLBACK
};

// The script that is served, or null until the first parameter.
extern std::unique_ptr<Script>& script;
// Whether a read is asked for by count and answered with a buffer (version 1, and one shape of version 2), or fills
// a buffer.
extern bool reads_by_count;
// Whether a read that fills is known to fill all of its buffer.
extern std::atomic<bool> reads_all;

// A connection: what the script's open() returned.
struct Connection {
  Ref handle;
  std::optional<bool> can_zero;  // asked once, though can_fast_zero's default depends on it as well
};

inline PyObject* handle(void* connection) noexcept { return static_cast<Connection*>(connection)->handle.get(); }
inline bool version_1() noexcept { return script->api_version() == 1; }
inline bool has(std::size_t callback) noexcept { return script && script->has(callback); }

// A callback that answers nothing, with these arguments: 0 or -1, as nbdkit wants it.
template <typename... Arguments>
int run(std::size_t callback, const Arguments&... arguments) noexcept {
  return nbdkit_python::run(*script, callback, arguments...);
}

// life.cpp: the server's start and end.
void load() noexcept;
void unload() noexcept;
int config(const char* key, const char* value) noexcept;
int config_complete() noexcept;
void dump_plugin() noexcept;
int thread_model() noexcept;
int get_ready() noexcept;
int after_fork() noexcept;
void cleanup() noexcept;

// connection.cpp: what a client asks before its first request.
int preconnect(int readonly) noexcept;
int list_exports(int readonly, int is_tls, nbdkit_exports* exports) noexcept;
const char* default_export(int readonly, int is_tls) noexcept;
void* open(int readonly) noexcept;
void close(void* connection) noexcept;
const char* export_description(void* h) noexcept;
int64_t get_size(void* h) noexcept;
int block_size(void* h, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) noexcept;
int is_rotational(void* h) noexcept;
int can_multi_conn(void* h) noexcept;
int can_write(void* h) noexcept;
int can_flush(void* h) noexcept;
int can_trim(void* h) noexcept;
int can_extents(void* h) noexcept;
int can_zero(void* h) noexcept;
int can_fast_zero(void* h) noexcept;
int can_fua(void* h) noexcept;
int can_cache(void* h) noexcept;

// For connections that nbdkit has not closed: it leaves that out when it is told to end.
void close_all() noexcept;

// request.cpp: reads, writes and their kin.
int pread(void* h, void* buf, uint32_t count, uint64_t offset, uint32_t flags) noexcept;
int pwrite(void* h, const void* buf, uint32_t count, uint64_t offset, uint32_t flags) noexcept;
int flush(void* h, uint32_t flags) noexcept;
int trim(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept;
int zero(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept;
int cache(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept;
int extents(void* h, uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents* list) noexcept;

}  // namespace nbdkit_python::door
