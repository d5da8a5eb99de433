// SPDX-License-Identifier: BSD-3-Clause
// A server's whole life with disk.py: the start, connections, their questions and requests, the end.
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "fuzz.hpp"
#include "memory.hpp"
#include "nbdkit.hpp"
#include "nbdkit_python/attach.hpp"
#include "nbdkit_python/buffer.hpp"
#include "plugin/door.hpp"

namespace nbdkit_python::fuzz {
namespace {

bool failed(const void* result) noexcept { return result == nullptr; }
bool failed(std::int64_t result) noexcept { return result == -1; }

// One callback of nbdkit's. What fails has a message and, in a connection, an errno, but for a decline, which is
// silent; what does not fail has neither, but for warnings at the start.
enum class Need { nothing, message, errno_and_message };
template <typename Callback>
auto served(const std::string& name, Need need, const Callback& callback) {
  record().err = 0;
  record().errors = 0;
  const auto result = callback();
  const int err = record().err;
  const bool silent = record().errors == 0;
  require(Thread::current().depth == 0 && Thread::current().call == nullptr, name + ": the thread is left attached");
  if (need == Need::nothing) return result;
  if (!failed(result)) {
    require(err == 0 && (silent || need == Need::message), name + ": an error without a failure");
  } else {
    const bool unsupported = err == EOPNOTSUPP || err == ENOTSUP;
    // From anything else, nbdkit would take it for a mistake of its own and abort.
    require(!unsupported || name == "fast zero", name + ": fails as unsupported");
    require(!silent || unsupported, name + ": fails without a message");
    require(err != 0 || need == Need::message, name + ": fails without an errno");
  }
  return result;
}

void settle(int status) {
  const Attach attach;
  const Ref arguments = Ref::take(Py_BuildValue("(i)", status));
  tell("callbacks", "settled", arguments.get());
}

class Connection {
 public:
  Connection(const nbdkit_plugin& plugin, Memory& memory, void* handle) : p_{plugin}, memory_{memory}, h_{handle} {}
  ~Connection() {
    served("close", Need::nothing, [&] {
      p_.close(h_);
      return 0;
    });
  }

  // False: nbdkit hangs up.
  bool ask() {
    served("export_description", Need::nothing, [&] { return p_.export_description(h_); });
    size_ = served("get_size", Need::errno_and_message, [&] { return p_.get_size(h_); });
    require(size_ >= -1, "get_size: a size below 0");
    std::uint32_t sizes[3];
    const auto ask_sizes = [&] { return p_.block_size(h_, &sizes[0], &sizes[1], &sizes[2]); };
    const bool known = served("block_size", Need::errno_and_message, ask_sizes) == 0;
    return size_ != -1 && known && able("is_rotational", p_.is_rotational) != -1 &&
           able("can_multi_conn", p_.can_multi_conn) != -1 && (write_ = able("can_write", p_.can_write)) != -1 &&
           (flush_ = able("can_flush", p_.can_flush)) != -1 && (trim_ = able("can_trim", p_.can_trim)) != -1 &&
           (zero_ = able("can_zero", p_.can_zero)) != -1 && able("can_fast_zero", p_.can_fast_zero) != -1 &&
           (extents_ = able("can_extents", p_.can_extents)) != -1 && (fua_ = able("can_fua", p_.can_fua, 2)) != -1 &&
           (cache_ = able("can_cache", p_.can_cache, 2)) != -1;
  }

  void request() {
    const Range range = some_range(size_);
    const std::uint32_t count = range.count;
    const std::uint64_t offset = range.offset;
    if (count == 0) return;
    const std::uint32_t fua = fua_ == NBDKIT_FUA_NATIVE && byte() % 2 == 1 ? NBDKIT_FLAG_FUA : 0;
    switch (byte() % 8) {
      case 0:
      case 1:
        return read(count, offset);
      case 2:
        if (write_ == 1) write(count, offset, fua);
        return;
      case 3:
        if (flush_ == 1) simple("flush", [&] { return p_.flush(h_, 0); });
        return;
      case 4:
        if (write_ == 1 && trim_ == 1) simple("trim", [&] { return p_.trim(h_, count, offset, fua); });
        return;
      case 5:
        if (write_ == 1 && zero_ == 1) zero(count, offset, fua);
        return;
      case 6:
        if (extents_ == 1) extents(count, offset);
        return;
      case 7:
        if (cache_ == NBDKIT_CACHE_NATIVE) simple("cache", [&] { return p_.cache(h_, count, offset, 0); });
        return;
    }
  }

 private:
  int able(const char* name, int (*callback)(void*), int most = 1) {
    const int answer = served(name, Need::errno_and_message, [&] { return callback(h_); });
    require(answer >= -1 && answer <= most, std::string{name} + ": answers " + std::to_string(answer));
    return answer;
  }

  template <typename Callback>
  int simple(const char* name, const Callback& callback) {
    const int status = served(name, Need::errno_and_message, callback);
    require(status == 0 || status == -1, std::string{name} + ": returns " + std::to_string(status));
    return status;
  }

  void read(std::uint32_t count, std::uint64_t offset) {
    char* const buffer = memory_.lend(count);
    const int status = simple("pread", [&] { return p_.pread(h_, buffer, count, offset, 0); });
    const std::string seen = memory_.take(count);
    if (status == 0) require(seen.find(Memory::poison) == std::string::npos, "pread: another request's data");
    settle(status);
  }

  void write(std::uint32_t count, std::uint64_t offset, std::uint32_t flags) {
    char* const buffer = memory_.lend(count);
    std::memset(buffer, 'w', count);
    const int status = simple("pwrite", [&] { return p_.pwrite(h_, buffer, count, offset, flags); });
    const std::string seen = memory_.take(count);
    require(seen == std::string(count, 'w'), "pwrite: the script writes to its data");
    settle(status);
  }

  // The plugin may call pwrite instead.
  void zero(std::uint32_t count, std::uint64_t offset, std::uint32_t flags) {
    flags |= byte() & (NBDKIT_FLAG_MAY_TRIM | NBDKIT_FLAG_FAST_ZERO);
    const char* const name = (flags & NBDKIT_FLAG_FAST_ZERO) != 0 ? "fast zero" : "zero";
    settle(simple(name, [&] { return p_.zero(h_, count, offset, flags); }));
  }

  void extents(std::uint32_t count, std::uint64_t offset) {
    nbdkit_extents list{.start = offset};
    const std::uint32_t flags = byte() & NBDKIT_FLAG_REQ_ONE;
    const int status = simple("extents", [&] { return p_.extents(h_, count, offset, flags, &list); });
    require(status == -1 || !list.all.empty(), "extents: succeeds without any");
  }

  const nbdkit_plugin& p_;
  Memory& memory_;
  void* const h_;
  std::int64_t size_ = -1;
  int write_ = 0, flush_ = 0, trim_ = 0, zero_ = 0, extents_ = 0, fua_ = 0, cache_ = 0;
};

void connect(const nbdkit_plugin& p, Memory& memory) {
  constexpr Need both = Need::errno_and_message;
  const int readonly = byte() % 2;
  if (served("preconnect", both, [&] { return p.preconnect(readonly); }) == -1) return;
  nbdkit_exports exports{};
  served("list_exports", both, [&] { return p.list_exports(readonly, 0, &exports); });
  if (served("default_export", both, [&] { return p.default_export(readonly, 0); }) == nullptr) return;
  void* const handle = served("open", both, [&] { return p.open(readonly); });
  if (handle == nullptr) return;
  Connection connection{p, memory, handle};
  constexpr int most = 24;
  if (connection.ask())
    for (int i = 0; i < most && !used_up(); ++i) connection.request();
}

// The steps up to serving; false: nbdkit would exit.
bool start(const nbdkit_plugin& p) {
  const auto step = [](const char* name, const auto& callback) { return served(name, Need::message, callback) != -1; };
  const auto model = [&] {
    const int answer = p.thread_model();
    require(answer >= -1 && answer <= NBDKIT_THREAD_MODEL_PARALLEL, "thread_model: answers " + std::to_string(answer));
    return answer;
  };
  return step("config", [&] { return p.config("script", FUZZ_FOLDER "/disk.py"); }) &&
         step("config_complete", p.config_complete) && step("thread_model", model) && step("get_ready", p.get_ready) &&
         step("after_fork", p.after_fork);
}

}  // namespace

void try_input() {
  const nbdkit_plugin& p = plugin();
  Memory memory;
  p.load();
  if (start(p)) {
    connect(p, memory);
    if (!used_up()) connect(p, memory);
    p.cleanup();
  }
  p.unload();
  const Attach attach;
  tell("callbacks", "forget");
  tell("objects", "forget");
  require(is_free(memory.lend(Memory::size), Memory::size), "a script that is gone has memory still");
}

}  // namespace nbdkit_python::fuzz
