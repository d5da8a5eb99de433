// SPDX-License-Identifier: BSD-3-Clause
// The server's life as the translators see it: their loading, parameters, the steps up to serving, and the end.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../nbdkit/clients.hpp"
#include "../nbdkit/server.hpp"
#include "background.hpp"
#include "door.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/interpreter.hpp"
#include "next.hpp"

namespace nbdkit_python::filter {

// Never destroyed but by unload, since a server that fails to start calls exit().
std::vector<Translator>& translators = *new std::vector<Translator>;

namespace {

// nbdkit's functions, but that a filter's errno goes another way: in *err. nbdkit's would be taken for the plugin's.
const Server& server() noexcept {
  static const Server instance = [] {
    Server s = nbdkit_server();
    s.set_error = [](int) {};
    return s;
  }();
  return instance;
}

// Looks the callbacks up, and what is to be known of pread. False: something is not right, and the log says what.
bool settle(Translator& translator) noexcept {
  Script& script = *translator.script;
  if (!script.resolve()) return false;
  if (!translator.has(id::pread)) return true;
  const auto by_count = script.takes_count(id::pread);
  const auto all = by_count ? script.fills_buffer(id::pread) : std::nullopt;
  if (!all) return script.report("pread"), false;
  translator.reads_by_count = *by_count;
  translator.reads_all = *all;
  return true;
}

int load_translator(const char* name) noexcept {
  const Attach attach;
  if (!Next::prepare()) return PyErr_Print(), stop();
  Translator translator{.script = Script::load(server(), name, callbacks, "translator")};
  if (!translator.script || !settle(translator)) return stop();
  const auto has = [&](const Callback& callback) {
    return translator.has(static_cast<std::size_t>(&callback - callbacks));
  };
  if (std::ranges::none_of(callbacks, has)) {
    translator.script->complain("",
                                "it has no callback: a translator has at least one, such as pread(h, next, buf, "
                                "offset, flags)");
    return stop();
  }
  if (start_step(*translator.script, id::load) == -1) return -1;
  // It may have defined or changed others.
  if (translator.has(id::load) && !settle(translator)) return stop();
  translators.push_back(std::move(translator));
  return 0;
}

// nbdkit exits at once if the plugin refuses a parameter.
void flush() noexcept {
  if (translators.empty()) return;
  const Attach attach;
  interpreter::flush();
}

// The plugin's own: it may keep the strings.
int pass_on(nbdkit_next_config* next, nbdkit_backend* backend, const char* key, const char* value) noexcept {
  flush();
  return next(backend, nbdkit_strdup_intern(key), nbdkit_strdup_intern(value));
}

}  // namespace

void load() noexcept {
  static bool loaded = false;
  if (std::exchange(loaded, true)) {
    nbdkit_error(
        "--filter=python is there twice: write it once, with a translator=SCRIPT for each, as in "
        "nbdkit --filter=python PLUGIN ... translator=a.py translator=b.py");
    std::exit(EXIT_FAILURE);
  }
  hold_interpreter(server(), "filter");
  clients::open();
}

void unload() noexcept {
  for (const Translator& translator : translators) last_call(*translator.script, id::unload);
  if (!translators.empty()) {
    const Attach attach;
    translators.clear();
  }
  interpreter::release();
}

int config(nbdkit_next_config* next, nbdkit_backend* backend, const char* key, const char* value) noexcept {
  if (std::strcmp(key, "translator") == 0) return load_translator(value);
  if (translators.empty() || !translators.back().has(id::config)) return pass_on(next, backend, key, value);
  Call call{*translators.back().script, id::config};
  PassingBy passing{"config", [&](Arguments& arguments) -> Ref {
                      std::string k = key, v = value;
                      if (!arguments.take("key", k) || !arguments.take("value", v) || !arguments.done()) return {};
                      int done = 0;
                      {
                        const Detach others_run;
                        done = pass_on(next, backend, k.c_str(), v.c_str());
                      }
                      if (done == -1) return raise_failed("config", EINVAL), Ref{};
                      return Ref::borrow(Py_None);
                    }};
  const Next object{call, passing};
  const Ref answer = call.invoke(object.get(), key, value);
  if (answer && to_nothing(answer.get())) return 0;
  call.fail();
  return stop();
}

int config_complete(nbdkit_next_config_complete* next, nbdkit_backend* backend) noexcept {
  if (translators.empty()) {
    nbdkit_error("no translator: usage: nbdkit --filter=python PLUGIN [...] translator=SCRIPT [KEY=VALUE ...]");
    return -1;
  }
  for (Translator& translator : translators) {
    if (start_step(*translator.script, id::config_complete) == -1) return -1;
    const Attach attach;
    if (!settle(translator)) return stop();
  }
  flush();
  return next(backend);
}

void dump_plugin() noexcept {
  for (const Translator& translator : translators) {
    std::printf("python_translator=%s\n", translator.script->name().c_str());
    // Python's streams have buffers of their own.
    std::fflush(stdout);
    if (translator.has(id::dump_plugin)) run(*translator.script, id::dump_plugin);
  }
  flush();
}

int thread_model() noexcept {
  int model = NBDKIT_THREAD_MODEL_PARALLEL;
  for (const Translator& translator : translators) {
    if (!translator.has(id::thread_model)) continue;
    const auto wanted = wanted_thread_model(*translator.script, id::thread_model);
    if (!wanted) return stop();
    model = std::min(model, *wanted);
  }
  return Turn::settle(model);
}

int thread_model(int) noexcept { return thread_model(); }

// From the plugin's side up, as nbdkit does it.
int get_ready(int thread_model) noexcept {
  Background::set_thread_model(thread_model);
  for (std::size_t i = translators.size(); i-- > 0;)
    if (start_step(*translators[i].script, id::get_ready) == -1) return -1;
  expect_fork();
  return 0;
}

int after_fork(nbdkit_backend* backend) noexcept {
  interpreter::forked();
  for (std::size_t i = translators.size(); i-- > 0;) {
    const Script& script = *translators[i].script;
    if (!script.has(id::after_fork)) continue;
    const QuitSignals quit;
    bool done = false;
    {
      Call call{script, id::after_fork};
      PassingBy passing{"background", [&](Arguments& arguments) { return open_background(i, backend, arguments); }};
      const Next next{call, passing};
      const Ref answer = call.invoke(next.get());
      done = answer && to_nothing(answer.get());
      if (!done) call.fail();
    }
    quit.keep(script);
    if (!done) return stop();
  }
  return 0;
}

void cleanup(nbdkit_backend*) noexcept {
  clients::close();
  close_all();
  for (const Translator& translator : translators) last_call(*translator.script, id::cleanup);
  if (translators.empty()) return;
  const Attach attach;
  close_backgrounds();
}

}  // namespace nbdkit_python::filter
