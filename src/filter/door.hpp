// SPDX-License-Identifier: BSD-3-Clause
// What the files of this door share: the table of callbacks, the translators, and nbdkit's callbacks by their own
// names.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "../nbdkit/steps.hpp"
#include "level.hpp"
#include "nbdkit_python/script.hpp"

namespace nbdkit_python::filter {

namespace id {
enum : std::size_t {
#define CALLBACK(name, need, may_yield, parameters) name,
#include "callbacks.def"
#undef CALLBACK
};
}  // namespace id

constexpr Callback callbacks[] = {
#define CALLBACK(name, need, may_yield, parameters) {#name, Callback::Need::need, may_yield, parameters, parameters},
#include "callbacks.def"
#undef CALLBACK
};

// One translator=SCRIPT of the command line.
struct Translator {
  std::unique_ptr<Script> script;
  // Whether a read is asked for by count and answered with a buffer, or fills a buffer; and if so, all of it for sure.
  bool reads_by_count = false;
  bool reads_all = false;

  bool has(std::size_t callback) const noexcept { return script->has(callback); }
};

// From the client's side down to the plugin's: in the order of the command line.
extern std::vector<Translator>& translators;

// life.cpp: the server's start and end.
void load() noexcept;
void unload() noexcept;
int config(nbdkit_next_config* next, nbdkit_backend* backend, const char* key, const char* value) noexcept;
int config_complete(nbdkit_next_config_complete* next, nbdkit_backend* backend) noexcept;
void dump_plugin() noexcept;
// The latter is nbdkit's from 1.46 on; filter.cpp takes the one that fits.
int thread_model() noexcept;
int thread_model(int next_thread_model) noexcept;
int get_ready(int thread_model) noexcept;
int after_fork(nbdkit_backend* backend) noexcept;
void cleanup(nbdkit_backend* backend) noexcept;

// exports.cpp: what a client asks before it has a connection to a disk.
int preconnect(nbdkit_next_preconnect* next, nbdkit_backend* backend, int readonly) noexcept;
int list_exports(nbdkit_next_list_exports* next, nbdkit_backend* backend, int readonly, int is_tls,
                 nbdkit_exports* exports) noexcept;
const char* default_export(nbdkit_next_default_export* next, nbdkit_backend* backend, int readonly,
                           int is_tls) noexcept;

// connection.cpp: a connection's start and end.
void* open(nbdkit_next_open* next, nbdkit_context* context, int readonly, const char* export_name, int is_tls) noexcept;
void close(void* handle) noexcept;
int prepare(nbdkit_next* next, void* handle, int readonly) noexcept;
int finalize(nbdkit_next* next, void* handle) noexcept;
// What is nearest to the client on this connection.
Level& top(void* handle) noexcept;
// For connections that nbdkit has not closed: it leaves that out when it is told to end.
void close_all() noexcept;

}  // namespace nbdkit_python::filter
