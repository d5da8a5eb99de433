// SPDX-License-Identifier: BSD-3-Clause
// The filter's whole life with one or two translators: the start, connections, their questions and requests, the end.
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "below.hpp"
#include "filter/door.hpp"
#include "filter/next.hpp"
#include "fuzz.hpp"
#include "memory.hpp"
#include "nbdkit.hpp"
#include "nbdkit/clients.hpp"
#include "nbdkit/server.hpp"
#include "nbdkit/steps.hpp"
#include "nbdkit_python/attach.hpp"

extern "C" nbdkit_filter* filter_init();

namespace nbdkit_python::fuzz {
namespace {

bool is_unsupported(int err) noexcept { return err == EOPNOTSUPP || err == ENOTSUP; }

// One callback of nbdkit's: what fails says so in the log.
template <typename Callback>
auto served(const char* name, const Callback& callback) {
  record().errors = 0;
  const auto result = callback();
  require(Thread::current().depth == 0 && Thread::current().call == nullptr,
          std::string{name} + ": the thread is left attached");
  return result;
}
void require_message(const char* name) {
  require(record().errors > 0, std::string{name} + ": fails without a message");
}

void settle() {
  const Attach attach;
  tell("callbacks", "look");
}

class Connection {
 public:
  Connection(const nbdkit_filter& filter, Memory& memory, nbdkit_context& context, void* handle, bool readonly) noexcept
      : f_{filter}, memory_{memory}, context_{context}, h_{handle}, readonly_{readonly} {}

  // False: nbdkit hangs up.
  bool prepare() {
    if (context_.next->prepare(context_.next) == -1) return false;
    prepared_ = status("prepare", [&] { return f_.prepare(context_.next, h_, readonly_ ? 1 : 0); }) == 0;
    return prepared_;
  }

  void finish() {
    if (!prepared_ || status("finalize", [&] { return f_.finalize(context_.next, h_); }) == 0)
      context_.next->finalize(context_.next);
  }

  bool ask() {
    served("export_description", [&] { return f_.export_description(context_.next, h_); });
    size_ = served("get_size", [&] { return f_.get_size(context_.next, h_); });
    require(size_ >= -1, "get_size: a size below 0");
    if (size_ == -1) return require_message("get_size"), false;
    std::uint32_t sizes[3];
    const auto ask_sizes = [&] { return f_.block_size(context_.next, h_, &sizes[0], &sizes[1], &sizes[2]); };
    return status("block_size", ask_sizes) == 0 && able("is_rotational", f_.is_rotational, 1) != -1 &&
           able("can_multi_conn", f_.can_multi_conn, 1) != -1 &&
           (write_ = readonly_ ? 0 : able("can_write", f_.can_write, 1)) != -1 &&
           (flush_ = able("can_flush", f_.can_flush, 1)) != -1 &&
           (trim_ = write_ == 0 ? 0 : able("can_trim", f_.can_trim, 1)) != -1 &&
           (zero_ = write_ == 0 ? 0 : able("can_zero", f_.can_zero, 2)) != -1 &&
           (fast_ = zero_ == 0 ? 0 : able("can_fast_zero", f_.can_fast_zero, 1)) != -1 &&
           (extents_ = able("can_extents", f_.can_extents, 1)) != -1 &&
           (fua_ = write_ == 0 ? 0 : able("can_fua", f_.can_fua, 2)) != -1 &&
           (cache_ = able("can_cache", f_.can_cache, 2)) != -1;
  }

  void request() {
    const Range range = some_range(size_);
    const std::uint32_t count = range.count;
    const std::uint64_t offset = range.offset;
    if (count == 0) return;
    const std::uint32_t fua = fua_ != NBDKIT_FUA_NONE && byte() % 2 == 1 ? NBDKIT_FLAG_FUA : 0;
    switch (byte() % 8) {
      case 0:
      case 1:
        return read(count, offset);
      case 2:
        if (write_ == 1) write(count, offset, fua);
        return;
      case 3:
        if (flush_ == 1) done("flush", [&](int* err) { return f_.flush(context_.next, h_, 0, err); });
        return;
      case 4:
        if (trim_ == 1) done("trim", [&](int* err) { return f_.trim(context_.next, h_, count, offset, fua, err); });
        return;
      case 5:
        if (zero_ != NBDKIT_ZERO_NONE) zero(count, offset, fua);
        return;
      case 6:
        return extents(count, offset);
      case 7:
        if (cache_ != NBDKIT_CACHE_NONE)
          done("cache", [&](int* err) { return f_.cache(context_.next, h_, count, offset, 0, err); });
        return;
    }
  }

 private:
  template <typename Callback>
  int status(const char* name, const Callback& callback) {
    const int result = served(name, callback);
    require(result == 0 || result == -1, std::string{name} + ": returns " + std::to_string(result));
    if (result == -1) require_message(name);
    return result;
  }

  int able(const char* name, int (*callback)(nbdkit_next*, void*), int most) {
    const int answer = served(name, [&] { return callback(context_.next, h_); });
    require(answer >= -1 && answer <= most, std::string{name} + ": answers " + std::to_string(answer));
    if (answer == -1) require_message(name);
    return answer;
  }

  // A request: 0, or -1 with an errno and a message, but for a fast zero that is declined.
  template <typename Callback>
  int done(const char* name, const Callback& callback, bool may_decline = false) {
    int err = 0;
    const int result = served(name, [&] { return callback(&err); });
    require(result == 0 || result == -1, std::string{name} + ": returns " + std::to_string(result));
    if (result == 0) return 0;
    require(err > 0, std::string{name} + ": fails without an errno");
    if (may_decline && is_unsupported(err)) return -1;
    // nbdkit would end the server.
    require(std::strcmp(name, "zero") != 0 || !is_unsupported(err), "zero: fails as unsupported");
    return require_message(name), -1;
  }

  void read(std::uint32_t count, std::uint64_t offset) {
    char* const buffer = memory_.lend(count);
    const int result =
        done("pread", [&](int* err) { return f_.pread(context_.next, h_, buffer, count, offset, 0, err); });
    const std::string seen = memory_.take(count);
    if (result == 0) require(seen.find(Memory::poison) == std::string::npos, "pread: another request's data");
    settle();
  }

  void write(std::uint32_t count, std::uint64_t offset, std::uint32_t flags) {
    char* const buffer = memory_.lend(count);
    std::memset(buffer, 'w', count);
    done("pwrite", [&](int* err) { return f_.pwrite(context_.next, h_, buffer, count, offset, flags, err); });
    require(memory_.take(count) == std::string(count, 'w'), "pwrite: a translator writes to its data");
    settle();
  }

  void zero(std::uint32_t count, std::uint64_t offset, std::uint32_t flags) {
    flags |= byte() & NBDKIT_FLAG_MAY_TRIM;
    if (fast_ == 1) flags |= byte() & NBDKIT_FLAG_FAST_ZERO;
    done(
        "zero", [&](int* err) { return f_.zero(context_.next, h_, count, offset, flags, err); },
        (flags & NBDKIT_FLAG_FAST_ZERO) != 0);
    settle();
  }

  void extents(std::uint32_t count, std::uint64_t offset) {
    // The caller's part, where there are none.
    if (extents_ == 0) return;
    nbdkit_extents list{.start = offset};
    const std::uint32_t flags = byte() & NBDKIT_FLAG_REQ_ONE;
    const int result =
        done("extents", [&](int* err) { return f_.extents(context_.next, h_, count, offset, flags, &list, err); });
    require(result == -1 || !list.all.empty(), "extents: succeeds without any");
  }

  const nbdkit_filter& f_;
  Memory& memory_;
  nbdkit_context& context_;
  void* const h_;
  const bool readonly_;
  bool prepared_ = false;
  std::int64_t size_ = -1;
  int write_ = 0, flush_ = 0, trim_ = 0, zero_ = 0, fast_ = 0, extents_ = 0, fua_ = 0, cache_ = 0;
};

void connect(const nbdkit_filter& f, Memory& memory) {
  const int readonly = byte() % 2;
  const int is_tls = byte() % 2;
  if (served("preconnect", [&] { return f.preconnect(let_in, nullptr, readonly); }) == -1)
    return require_message("preconnect");
  nbdkit_exports exports{};
  if (served("list_exports", [&] { return f.list_exports(tell_exports, nullptr, readonly, is_tls, &exports); }) == -1)
    require_message("list_exports");
  const char* const name =
      served("default_export", [&] { return f.default_export(tell_default, nullptr, readonly, is_tls); });
  if (name == nullptr) return;
  nbdkit_context context;
  void* const handle = served("open", [&] { return f.open(open_below, &context, readonly, name, is_tls); });
  if (handle == nullptr) {
    require_message("open");
    require(context.next == nullptr, "open fails and leaves what is below open");
    return;
  }
  require(context.next != nullptr, "open succeeds and what is below is not open");
  Connection connection{f, memory, context, handle, readonly != 0};
  constexpr int most = 24;
  if (connection.prepare() && connection.ask())
    for (int i = 0; i < most && !used_up(); ++i) connection.request();
  connection.finish();
  served("close", [&] {
    f.close(handle);
    return 0;
  });
  delete std::exchange(context.next, nullptr);
}

// The steps up to serving; false: nbdkit would exit.
bool start(const nbdkit_filter& f) {
  const auto step = [](const char* name, const auto& callback) {
    const int result = served(name, callback);
    require(result >= -1 && result <= NBDKIT_THREAD_MODEL_PARALLEL, std::string{name} + ": an answer out of range");
    if (result == -1) require_message(name);
    return result != -1;
  };
  const auto configure = [&](const char* key, const char* value) {
    return step("config", [&] { return f.config(take_parameter, nullptr, key, value); });
  };
  int model = 0;
  const bool two = byte() % 2 == 1;
  return configure("translator", FUZZ_FOLDER "/translator.py") && configure("key", "value") &&
         (!two || configure("translator", FUZZ_FOLDER "/translator.py")) && configure("another", "") &&
         step("config_complete", [&] { return f.config_complete(agree, nullptr); }) &&
         // By nbdkit's version it has a parameter or not.
         step("thread_model", [&] { return model = filter::thread_model(); }) &&
         step("get_ready", [&] { return f.get_ready(model); }) &&
         step("after_fork", [&] { return f.after_fork(nullptr); });
}

}  // namespace

void try_input() {
  const nbdkit_filter& f = *filter_init();
  Memory memory;
  // As f.load, which may be called once.
  static const Server server = nbdkit_server();
  hold_interpreter(server, "filter");
  clients::open();
  const bool starts = start(f);
  if (byte() % 8 == 1) filter::dump_plugin();
  if (starts) {
    connect(f, memory);
    if (!used_up()) connect(f, memory);
    f.cleanup(nullptr);
  } else {
    // nbdkit would exit.
    const Attach attach;
    filter::close_backgrounds();
  }
  f.unload();
  require(Below::count() == 0, "what was opened below is left open");
  const Attach attach;
  tell("translators", "forget");
  tell("objects", "forget");
}

}  // namespace nbdkit_python::fuzz
