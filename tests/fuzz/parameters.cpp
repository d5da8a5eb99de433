// SPDX-License-Identifier: BSD-3-Clause
// Parameters of any bytes in any order, on their way to the script; and the functions by which a script reads them.
#include <string>

#include "fuzz.hpp"
#include "nbdkit.hpp"
#include "nbdkit_python/attach.hpp"

namespace nbdkit_python::fuzz {
namespace {

const std::string script = FUZZ_FOLDER "/disk.py";

std::string any_key() {
  switch (byte() % 4) {
    case 0:
      return "script";
    case 1:
      return "key";
    default:
      return text(63);
  }
}

std::string any_value() {
  switch (byte() % 8) {
    case 0:
      return script;
    case 1:
      return FUZZ_FOLDER;
    case 2:
      return "-";
    case 3:
      return script + text(63);
    default:
      return text(63);
  }
}

int done(const char* name, int status) {
  require(status == 0 || status == -1, std::string{name} + ": returns " + std::to_string(status));
  require(status == 0 || record().errors > 0, std::string{name} + ": fails without a message");
  return status;
}

void expect(const std::string& key, const std::string& value) {
  const Attach attach;
  const Ref arguments = Ref::take(Py_BuildValue("(yy)", key.c_str(), value.c_str()));
  tell("objects", "expect", arguments.get());
}

// nbdkit ends at the first failure.
void start(const nbdkit_plugin& p) {
  const int most = byte() % 8;
  for (int i = 0; i < most; ++i) {
    const std::string key = i == 0 && byte() % 8 != 0 ? "script" : any_key();
    const std::string value = i == 0 && byte() % 8 != 0 ? script : any_value();
    expect(key, value);
    if (done("config", p.config(key.c_str(), value.c_str())) == -1) return;
  }
  if (done("config_complete", p.config_complete()) == -1) return;
  p.dump_plugin();
}

}  // namespace

void try_input() {
  if (byte() % 2 == 0) {
    const nbdkit_plugin& p = plugin();
    p.load();
    start(p);
    p.unload();
    const Attach attach;
    tell("callbacks", "forget");
  } else {
    const Attach attach;
    while (!used_up()) tell("functions", "try_any");
  }
}

}  // namespace nbdkit_python::fuzz
