// SPDX-License-Identifier: BSD-3-Clause
// A translator's callbacks on one connection, and what stands in for those that it does not have.
#include "layer.hpp"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <new>

#include "../nbdkit/answers.hpp"
#include "nbdkit_python/convert.hpp"
#include "nbdkit_python/error.hpp"
#include "next.hpp"

namespace nbdkit_python::filter {
namespace {

constexpr std::size_t callback_of(Ability ability) noexcept {
  return id::can_write + static_cast<std::size_t>(ability);
}
constexpr std::size_t callback_of(Request request) noexcept { return id::pread + static_cast<std::size_t>(request); }
static_assert(callback_of(Ability::can_cache) == id::can_cache);
static_assert(callback_of(Request::cache) == id::cache);

// One of NBDKIT_ZERO_*. A truth value means what it means in a disk: whether zeros may come as such, or are to be
// written.
std::optional<std::int64_t> to_zero_level(PyObject* answer) noexcept {
  if (PyBool_Check(answer)) return answer == Py_True ? NBDKIT_ZERO_NATIVE : NBDKIT_ZERO_EMULATE;
  return to_int(answer, NBDKIT_ZERO_NONE, NBDKIT_ZERO_NATIVE);
}

// The rules that nbdkit checks for a plugin, but not for a filter.
bool is_good(const std::array<std::uint32_t, 3>& sizes) noexcept {
  const auto [minimum, preferred, maximum] = sizes;
  const auto is_power_of_2 = [](std::uint32_t n) { return n != 0 && (n & (n - 1)) == 0; };
  if (minimum == 0 && preferred == 0 && maximum == 0) return true;
  if (is_power_of_2(minimum) && minimum <= 65536 && is_power_of_2(preferred) && preferred >= 512 &&
      preferred <= 32 << 20 && minimum <= preferred && preferred <= maximum &&
      (maximum == UINT32_MAX || maximum % minimum == 0))
    return true;
  script_error(
      "expected (0, 0, 0), or a minimum that is a power of 2 up to 65536, a preferred size that is one from 512 to 32M "
      "and not below it, and a maximum that is a multiple of the minimum, not below the preferred size, or 2**32 - 1; "
      "got (" +
      std::to_string(minimum) + ", " + std::to_string(preferred) + ", " + std::to_string(maximum) + ")");
  return false;
}

}  // namespace

template <typename Convert>
auto Layer::ask(std::size_t callback, const Convert& convert) noexcept -> decltype(convert(nullptr)) {
  const Turn turn;
  Call call{*translator_.script, callback};
  const Next next{call, below_};
  if (const Ref answer = call.invoke(handle(), next.get()))
    if (auto value = convert(answer.get())) return value;
  call.fail();
  return {};
}

template <typename... Arguments>
int Layer::request(std::size_t callback, int* err, const Arguments&... arguments) noexcept {
  const Turn turn;
  Call call{*translator_.script, callback};
  const Next next{call, below_};
  const Ref answer = call.invoke(handle(), next.get(), arguments...);
  if (answer && to_nothing(answer.get())) return 0;
  *err = call.fail();
  return -1;
}

bool Layer::passes(Request request, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept {
  const auto fault = below_.fault(request, count, offset, flags);
  if (!fault) [[likely]]
    return true;
  nbdkit_error("%s: %s: the translator has no such callback, and what is below cannot be asked for this: %s",
               translator_.script->name().c_str(), callbacks[callback_of(request)].name, fault->c_str());
  *err = EIO;
  return false;
}

// ---- the connection

bool Layer::prepare() noexcept {
  if (has(id::prepare)) {
    const Turn turn;
    Call call{*translator_.script, id::prepare};
    const Next next{call, below_};
    const Ref answer = call.invoke(handle(), next.get(), readonly_);
    if (!answer || !to_nothing(answer.get())) return call.fail(), false;
  }
  return prepared_ = true;
}

bool Layer::finalize() noexcept {
  const auto done = [](PyObject* answer) { return to_nothing(answer) ? std::optional{true} : std::nullopt; };
  return !std::exchange(prepared_, false) || !has(id::finalize) || ask(id::finalize, done);
}

void Layer::close() noexcept {
  if (has(id::close)) run(*translator_.script, id::close, handle());
  if (!handle_) return;
  const Attach attach;
  handle_ = Ref{};
}

// ---- what it says of itself

std::int64_t Layer::ask_size() noexcept {
  if (!has(id::get_size)) return below_.size();
  return ask(id::get_size, [](PyObject* answer) { return to_int(answer, 0, INT64_MAX); }).value_or(-1);
}

const char* Layer::export_description() noexcept {
  if (!has(id::export_description)) return below_.export_description();
  const char* text = nullptr;
  ask(id::export_description, [&](PyObject* answer) {
    return answer == Py_None || (text = to_interned(answer)) != nullptr ? std::optional{true} : std::nullopt;
  });
  return text;
}

int Layer::block_size(std::uint32_t* minimum, std::uint32_t* preferred, std::uint32_t* maximum) noexcept {
  if (!has(id::block_size)) return below_.block_size(minimum, preferred, maximum);
  const auto sizes = ask(id::block_size, [](PyObject* answer) {
    const auto found = to_block_size(answer);
    return found && is_good(*found) ? found : std::nullopt;
  });
  if (!sizes) return -1;
  *minimum = (*sizes)[0];
  *preferred = (*sizes)[1];
  *maximum = (*sizes)[2];
  return 0;
}

int Layer::ask(Ability ability) noexcept {
  if (ability == Ability::can_write && readonly_) return 0;
  const std::size_t callback = callback_of(ability);
  if (!has(callback)) return inherited(ability);
  const auto level = [](PyObject* answer) { return to_int(answer, 0, 2); };
  switch (ability) {
    case Ability::can_zero:
      return static_cast<int>(ask(callback, to_zero_level).value_or(-1));
    case Ability::can_fua:
    case Ability::can_cache:
      return static_cast<int>(ask(callback, level).value_or(-1));
    default: {
      const auto truth = ask(callback, to_bool);
      return truth ? static_cast<int>(*truth) : -1;
    }
  }
}

int Layer::inherited(Ability ability) noexcept {
  const int answer = below_.able(ability);
  // What a translator writes in another form must not be zeroed behind its back, and what it reads in another form is
  // not as the extents below tell.
  if (ability == Ability::can_zero && has(id::pwrite) && !has(id::zero)) return std::min(answer, NBDKIT_ZERO_EMULATE);
  if (ability == Ability::can_extents && has(id::pread) && !has(id::extents)) return std::min(answer, 0);
  return answer;
}

// ---- requests

int Layer::pread(void* buf, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept {
  if (!has(id::pread))
    return passes(Request::pread, count, offset, flags, err) ? below_.pread(buf, count, offset, flags, err) : -1;
  const Turn turn;
  Call call{*translator_.script, id::pread};
  const Next next{call, below_};
  const auto bytes = [&] { return call.invoke(handle(), next.get(), count, offset, flags); };
  const auto filled = [&](PyObject* view) { return call.invoke(handle(), next.get(), view, offset, flags); };
  *err = translator_.reads_by_count ? receive(call, buf, count, bytes)
                                    : fill(call, buf, count, translator_.reads_all, filled);
  return *err == 0 ? 0 : -1;
}

int Layer::pwrite(const void* buf, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept {
  if (!has(id::pwrite))
    return passes(Request::pwrite, count, offset, flags, err) ? below_.pwrite(buf, count, offset, flags, err) : -1;
  const Turn turn;
  Call call{*translator_.script, id::pwrite};
  const Next next{call, below_};
  *err = send(call, buf, count, [&](PyObject* view) { return call.invoke(handle(), next.get(), view, offset, flags); });
  return *err == 0 ? 0 : -1;
}

int Layer::flush(std::uint32_t flags, int* err) noexcept {
  if (has(id::flush)) return request(id::flush, err, flags);
  return passes(Request::flush, 0, 0, flags, err) ? below_.flush(flags, err) : -1;
}

int Layer::trim(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept {
  if (has(id::trim)) return request(id::trim, err, count, offset, flags);
  return passes(Request::trim, count, offset, flags, err) ? below_.trim(count, offset, flags, err) : -1;
}

std::optional<int> Layer::zeroed(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept {
  const Turn turn;
  Call call{*translator_.script, id::zero};
  const Next next{call, below_};
  const Ref answer = call.invoke(handle(), next.get(), count, offset, flags);
  if (answer && to_nothing(answer.get()) && !call.declined()) return 0;
  *err = call.fail_or_decline();
  return *err == EOPNOTSUPP ? std::nullopt : std::optional{-1};
}

int Layer::zero(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept {
  if (able(Ability::can_zero) != NBDKIT_ZERO_EMULATE) {
    if (!has(id::zero))
      return passes(Request::zero, count, offset, flags, err) ? below_.zero(count, offset, flags, err) : -1;
    if (const auto done = zeroed(count, offset, flags, err)) return *done;
  }
  if ((flags & NBDKIT_FLAG_FAST_ZERO) != 0) return *err = EOPNOTSUPP, -1;
  return write_zeros(count, offset, [&](const char* zeros, std::uint32_t length, std::uint64_t at) {
    return pwrite(zeros, length, at, flags & NBDKIT_FLAG_FUA, err);
  });
}

int Layer::extents(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, nbdkit_extents* list,
                   int* err) noexcept {
  if (able(Ability::can_extents) == 0) {
    if (nbdkit_add_extent(list, offset, count, 0) == 0) return 0;
    return *err = ENOMEM, -1;
  }
  if (!has(id::extents))
    return passes(Request::extents, count, offset, flags, err) ? below_.extents(count, offset, flags, list, err) : -1;
  const Turn turn;
  Call call{*translator_.script, id::extents};
  const Next next{call, below_};
  const Ref answer = call.invoke(handle(), next.get(), count, offset, flags);
  if (answer && add_extents(answer.get(), count, offset, list)) return 0;
  *err = call.fail();
  return -1;
}

int Layer::cache(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept {
  if (able(Ability::can_cache) == NBDKIT_CACHE_EMULATE) {
    constexpr std::uint32_t most = 1 << 20;
    const std::unique_ptr<char[]> sink{new (std::nothrow) char[std::min(count, most)]};
    if (!sink) return *err = ENOMEM, -1;
    for (std::uint32_t done = 0; done < count;) {
      const std::uint32_t length = std::min(count - done, most);
      if (pread(sink.get(), length, offset + done, 0, err) == -1) return -1;
      done += length;
    }
    return 0;
  }
  if (has(id::cache)) return request(id::cache, err, count, offset, flags);
  return passes(Request::cache, count, offset, flags, err) ? below_.cache(count, offset, flags, err) : -1;
}

}  // namespace nbdkit_python::filter
