// SPDX-License-Identifier: BSD-3-Clause
// What a client asks before its first request: exports, sizes and abilities.
//
// A callback that the script does not have gets its default here, without a look at Python.
#include <unordered_set>

#include "../nbdkit/answers.hpp"
#include "../nbdkit/clients.hpp"
#include "door.hpp"
#include "nbdkit_python/convert.hpp"

namespace nbdkit_python::door {
namespace {

// Those that are open; the GIL guards it. Never destroyed, as the script.
auto& connections = *new std::unordered_set<Connection*>;

// A str that nbdkit keeps, or null after an error.
const char* interned(Call& call, const Ref& answer) noexcept {
  if (answer)
    if (const char* const text = to_interned(answer.get())) return text;
  call.fail();
  return nullptr;
}

// What a callback of one connection answers; empty after an error.
template <typename Convert>
auto ask(std::size_t callback, void* h, const Convert& convert) noexcept -> decltype(convert(nullptr)) {
  const Turn turn;
  Call call{*script, callback};
  if (const Ref answer = call.invoke(handle(h)))
    if (const auto value = convert(answer.get())) return value;
  call.fail();
  return {};
}

// 1, 0, or -1 after an error.
int ask_bool(std::size_t callback, void* h, bool missing) noexcept {
  const auto truth = has(callback) ? ask(callback, h, to_bool) : missing;
  return truth ? static_cast<int>(*truth) : -1;
}

// One of NBDKIT_FUA_* or NBDKIT_CACHE_*, none, emulate, native; or -1 after an error.
int ask_level(std::size_t callback, void* h, int missing) noexcept {
  static_assert(NBDKIT_FUA_NONE == 0 && NBDKIT_FUA_NATIVE == 2);
  static_assert(NBDKIT_CACHE_NONE == 0 && NBDKIT_CACHE_NATIVE == 2);
  if (!has(callback)) return missing;
  return static_cast<int>(ask(callback, h, [](PyObject* answer) { return to_int(answer, 0, 2); }).value_or(-1));
}

// Whether reads fill their buffer is found out for the first client: to look through the script's source takes longer
// than anything else at the start that the plugin adds to Python's own. Another client's reads may come first: theirs
// are zeroed.
void look_at_reads() noexcept {
  static bool looked = false;  // the GIL guards it
  if (looked || reads_by_count) return;
  looked = true;
  if (const auto all = script->fills_buffer(id::pread))
    reads_all = *all;
  else
    script->report("pread");
}

}  // namespace

int preconnect(int readonly) noexcept {
  clients::arrive();
  return has(id::preconnect) ? run(id::preconnect, readonly != 0) : 0;
}

int list_exports(int readonly, int is_tls, nbdkit_exports* exports) noexcept {
  if (!has(id::list_exports)) return nbdkit_use_default_export(exports);
  const Turn turn;
  Call call{*script, id::list_exports};
  const Ref answer = call.invoke(readonly != 0, is_tls != 0);
  if (answer && add_exports(answer.get(), exports)) return 0;
  call.fail();
  return -1;
}

const char* default_export(int readonly, int is_tls) noexcept {
  if (!has(id::default_export)) return "";
  const Turn turn;
  Call call{*script, id::default_export};
  return interned(call, call.invoke(readonly != 0, is_tls != 0));
}

void* open(int readonly) noexcept {
  const Turn turn;
  Call call{*script, id::open};
  look_at_reads();
  Ref handle = call.invoke(readonly != 0);
  if (handle && to_nothing(handle.get())) return *connections.insert(new Connection{std::move(handle), {}}).first;
  call.fail();
  return nullptr;
}

void close(void* connection) noexcept {
  const std::unique_ptr<Connection> owned{static_cast<Connection*>(connection)};
  const Turn turn;
  const Attach attach;
  connections.erase(owned.get());
  if (has(id::close)) run(id::close, owned->handle.get());
  owned->handle = Ref{};
}

void close_all() noexcept {
  const Turn turn;
  const Attach attach;
  while (!connections.empty()) close(*connections.begin());
}

const char* export_description(void* h) noexcept {
  if (!has(id::export_description)) return nullptr;
  const Turn turn;
  Call call{*script, id::export_description};
  const Ref answer = call.invoke(handle(h));
  return answer && answer.get() == Py_None ? nullptr : interned(call, answer);
}

int64_t get_size(void* h) noexcept {
  return ask(id::get_size, h, [](PyObject* answer) { return to_int(answer, 0, INT64_MAX); }).value_or(-1);
}

int block_size(void* h, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) noexcept {
  *minimum = *preferred = *maximum = 0;  // not known
  if (!has(id::block_size)) return 0;
  const auto sizes = ask(id::block_size, h, to_block_size);
  if (!sizes) return -1;
  *minimum = (*sizes)[0];
  *preferred = (*sizes)[1];
  *maximum = (*sizes)[2];
  return 0;
}

int is_rotational(void* h) noexcept { return ask_bool(id::is_rotational, h, false); }
int can_multi_conn(void* h) noexcept { return ask_bool(id::can_multi_conn, h, false); }
int can_write(void* h) noexcept { return ask_bool(id::can_write, h, has(id::pwrite)); }
int can_flush(void* h) noexcept { return ask_bool(id::can_flush, h, has(id::flush)); }
int can_trim(void* h) noexcept { return ask_bool(id::can_trim, h, has(id::trim)); }
int can_extents(void* h) noexcept { return ask_bool(id::can_extents, h, has(id::extents)); }

int can_zero(void* h) noexcept {
  auto& known = static_cast<Connection*>(h)->can_zero;
  if (!known) {
    const int answer = ask_bool(id::can_zero, h, has(id::zero));
    if (answer == -1) return -1;
    known = answer == 1;
  }
  return *known ? 1 : 0;
}

int can_fast_zero(void* h) noexcept {
  if (has(id::can_fast_zero)) return ask_bool(id::can_fast_zero, h, false);
  // Without zero, nbdkit can say at once that it is not fast.
  const int zero = can_zero(h);
  return zero == -1 ? -1 : 1 - zero;
}

int can_fua(void* h) noexcept {
  const int level = ask_level(id::can_fua, h, has(id::flush) ? NBDKIT_FUA_EMULATE : NBDKIT_FUA_NONE);
  // The writes of version 1 have no flags to tell it by, so that only a flush can do what the client asks for.
  return version_1() && level == NBDKIT_FUA_NATIVE && has(id::flush) ? NBDKIT_FUA_EMULATE : level;
}

int can_cache(void* h) noexcept {
  return ask_level(id::can_cache, h, has(id::cache) ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_NONE);
}

}  // namespace nbdkit_python::door
