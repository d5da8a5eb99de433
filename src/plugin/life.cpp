// SPDX-License-Identifier: BSD-3-Clause
// The server's life as the script sees it: load, parameters, the steps up to serving, and the end.
#include <cstdio>
#include <cstring>
#include <string>

#include "../nbdkit/clients.hpp"
#include "../nbdkit/server.hpp"
#include "door.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::door {

// Never destroyed but by unload, since a server that fails to start calls exit().
std::unique_ptr<Script>& script = *new std::unique_ptr<Script>;
bool reads_by_count = true;
std::atomic<bool> reads_all = false;

namespace {

// A step of the server's start that the script need not have.
int start_step(std::size_t callback) noexcept { return script ? nbdkit_python::start_step(*script, callback) : 0; }

int settle_callbacks() noexcept {
  if (!script->resolve()) return stop();
  const auto by_count = version_1() ? std::optional{true} : script->takes_count(id::pread);
  if (!by_count) {
    script->report("pread");
    return stop();
  }
  reads_by_count = *by_count;
  return 0;
}

int load_script(const char* name) noexcept {
  const Attach attach;
  script = Script::load(nbdkit_server(), name, callbacks);
  if (!script || settle_callbacks() == -1) return stop();
  if (!has(id::load)) return 0;
  // It may have defined or changed others.
  return start_step(id::load) == 0 ? settle_callbacks() : -1;
}

}  // namespace

void load() noexcept {
  hold_interpreter(nbdkit_server(), "plugin");
  clients::open();
}

void unload() noexcept {
  if (script) {
    last_call(*script, id::unload);
    const Attach attach;
    script.reset();
  }
  interpreter::release();
}

int config(const char* key, const char* value) noexcept {
  const bool bare = std::strcmp(key, "script") == 0;
  if (!script) {
    if (bare) return load_script(value);
    nbdkit_error("expected a script as the first parameter, got %s=%s; usage: nbdkit python SCRIPT [KEY=VALUE ...]",
                 key, value);
    return -1;
  }
  // nbdkit calls whatever comes without a key by our own magic key, which is spent: it is the script's now.
  if (bare) {
    if (!script->magic_config_key()) {
      nbdkit_error("%s: unexpected parameter '%s': expected KEY=VALUE, since the script has no magic_config_key",
                   script->name().c_str(), value);
      return -1;
    }
    key = script->magic_config_key()->c_str();
  }
  if (!has(id::config)) {
    nbdkit_error("%s: unexpected parameter %s=%s: this plugin does not need command line configuration",
                 script->name().c_str(), key, value);
    return -1;
  }
  return run(id::config, key, value) == 0 ? 0 : stop();
}

int config_complete() noexcept {
  if (!script) {
    nbdkit_error("no script: usage: nbdkit python SCRIPT [KEY=VALUE ...]");
    return -1;
  }
  if (start_step(id::config_complete) == -1) return -1;
  const Attach attach;
  return settle_callbacks();
}

void dump_plugin() noexcept {
  // Py_GetVersion() goes on with the compiler's name.
  const std::string version = Py_GetVersion();
  std::printf("python_version=%s\n", version.substr(0, version.find(' ')).c_str());
  std::printf("python_pep_384_abi_version=%d\n", PYTHON_ABI_VERSION);
  std::printf("nbdkit_python_maximum_api_version=%d\n", max_api_version);
  if (!script) return;
  const Attach attach;
  std::printf("python_script=%s\n", script->name().c_str());
  std::printf("python_script_api_version=%d\n", script->api_version());
  std::printf("python_pread=%s\n", reads_by_count ? "count" : "buf");
  std::printf("python_callbacks=");
  const char* separator = "";
  for (std::size_t i = 0; i < std::size(callbacks); ++i)
    if (has(i)) {
      std::printf("%s%s", separator, callbacks[i].name);
      separator = " ";
    }
  std::printf("\n");
  if (const auto summary = script->summary(); summary && !summary->empty())
    std::printf("python_script_doc=%s\n", summary->c_str());
  if (const auto parameters = script->dump())
    std::printf("%s", parameters->c_str());
  else
    script->report("");
  // Python's streams have buffers of their own.
  std::fflush(stdout);
  if (has(id::dump_plugin)) run(id::dump_plugin);
  interpreter::flush();
}

int thread_model() noexcept {
  if (!has(id::thread_model)) return Turn::settle(NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS);
  const auto model = wanted_thread_model(*script, id::thread_model);
  return model ? Turn::settle(*model) : stop();
}

int get_ready() noexcept {
  if (start_step(id::get_ready) == -1) return -1;
  expect_fork();
  return 0;
}

int after_fork() noexcept {
  interpreter::forked();
  const QuitSignals quit;
  const int done = start_step(id::after_fork);
  if (script) quit.keep(*script);
  return done;
}

void cleanup() noexcept {
  clients::close();
  close_all();
  if (script) last_call(*script, id::cleanup);
}

}  // namespace nbdkit_python::door
