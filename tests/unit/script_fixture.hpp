// SPDX-License-Identifier: BSD-3-Clause
// Scripts that a test writes, loads and forgets, with a table of callbacks as a door would have it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "nbdkit_python/script.hpp"
#include "python_code.hpp"

namespace nbdkit_python::test {

namespace id {
enum : std::size_t { open, pread, close, items, cache, load, get_ready };
}  // namespace id

inline constexpr Callback table[] = {
    {"open", Callback::Need::required, false, "readonly", "readonly"},
    {"pread", Callback::Need::required, false, "h, count, offset", "h, buf, offset, flags"},
    {"close", Callback::Need::optional, false, "h", "h"},
    {"items", Callback::Need::optional, true, "", ""},
    {"cache", Callback::Need::shared, false, "h, flags", "h, flags"},
    {"load", Callback::Need::added, false, "", ""},
    {"get_ready", Callback::Need::optional, false, "", ""},
};

// What the table asks for at least.
inline const std::string required =
    "def open(readonly): return 1\n"
    "def pread(h, count, offset): return bytes(count)\n";
inline const std::string required_v2 =
    "API_VERSION = 2\n"
    "def open(readonly): return 1\n"
    "def pread(h, buf, offset, flags): pass\n";

class ScriptTest : public PythonTest {
 protected:
  ScriptTest() {
    char name[] = "/tmp/nbdkit-python-unit-XXXXXX";
    folder_ = mkdtemp(name);
    run("import sys, __main__\n"
        "was = dict(vars(__main__)), sys.path[:], sys.argv[:]\n");
  }
  ~ScriptTest() override {
    reset();
    std::filesystem::remove_all(folder_);
  }

  std::string path(std::string_view name = "disk.py") const { return folder_ / name; }

  void write(std::string_view bytes, std::string_view name = "disk.py") const {
    std::ofstream{folder_ / name, std::ios::binary} << bytes;
  }

  std::unique_ptr<Script> load(std::string_view bytes) {
    reset();
    write(bytes);
    return Script::load(fake_server(), path().c_str(), table);
  }

  // A script that must be right, loaded and resolved.
  std::unique_ptr<Script> resolved(std::string_view bytes) {
    auto script = load(bytes);
    EXPECT_TRUE(script && script->resolve()) << bytes << "\n" << error();
    return script;
  }

  // The one message in the log, without the script's name that it must begin with; the log is then empty.
  std::string error() {
    const auto errors = std::exchange(fake().errors, {});
    EXPECT_EQ(errors.size(), 1U);
    if (errors.empty()) return {};
    const std::string prefix = path() + ": ";
    EXPECT_TRUE(errors.front().starts_with(prefix)) << errors.front();
    return errors.front().substr(std::min(prefix.size(), errors.front().size()));
  }

  // What a script that cannot be loaded, or resolved, is told.
  std::string load_error(std::string_view bytes) {
    EXPECT_FALSE(load(bytes)) << bytes;
    return error();
  }
  std::string resolve_error(std::string_view bytes) {
    const auto script = load(bytes);
    EXPECT_TRUE(script && !script->resolve()) << bytes;
    return error();
  }

 private:
  // All scripts run in the one __main__: without the names that an earlier one has left there.
  void reset() {
    run("vars(__main__).clear()\n"
        "vars(__main__).update(was[0])\n"
        "sys.path[:], sys.argv[:] = was[1:]\n");
  }

  std::filesystem::path folder_;
};

}  // namespace nbdkit_python::test
