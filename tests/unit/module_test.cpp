// SPDX-License-Identifier: BSD-3-Clause
// The functions that scripts import, over a server that has all of them: what reaches it, and what comes back.
#include <netinet/in.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <linux/vm_sockets.h>

#include <atomic>
#include <thread>

#include "nbdkit_python/interpreter.hpp"
#include "script_fixture.hpp"

namespace nbdkit_python::test {
namespace {

class ModuleTest : public PythonTest {
 protected:
  ModuleTest() { run("import nbdkit, errno"); }

  // The function is called as the expression has it, with this in the server's record.
  void calls(const std::string& expression, const std::string& record, const std::string& result = "None") {
    fake().clear();
    EXPECT_EQ(text_of(expression), result) << expression;
    EXPECT_EQ(fake().calls, std::vector<std::string>{record}) << expression;
  }
  std::string raised_where_refused(const std::string& code) {
    fake().refuses = true;
    std::string error = raised_by(code);
    fake().refuses = false;
    return error;
  }
  template <typename Address>
  std::string peer(const Address& address, std::size_t size = sizeof(Address)) {
    fake().peer = std::string{reinterpret_cast<const char*>(&address), size};
    return text_of("repr(nbdkit.peer_name())");
  }
};

TEST_F(ModuleTest, HasAllThatTheServerHas) {
  for (const char* const name : {"absolute_path",
                                 "debug",
                                 "debug_hexdiff",
                                 "debug_hexdump",
                                 "disconnect",
                                 "export_name",
                                 "is_tls",
                                 "name",
                                 "nanosleep",
                                 "parse_bool",
                                 "parse_delay",
                                 "parse_int",
                                 "parse_int16_t",
                                 "parse_int32_t",
                                 "parse_int64_t",
                                 "parse_int8_t",
                                 "parse_probability",
                                 "parse_size",
                                 "parse_uint16_t",
                                 "parse_uint32_t",
                                 "parse_uint64_t",
                                 "parse_uint8_t",
                                 "parse_unsigned",
                                 "peer_gid",
                                 "peer_name",
                                 "peer_pid",
                                 "peer_security_context",
                                 "peer_tls_dn",
                                 "peer_tls_issuer_dn",
                                 "peer_uid",
                                 "read_password",
                                 "realpath",
                                 "set_error",
                                 "shutdown",
                                 "stdio_safe",
                                 "timestamp"}) {
    EXPECT_TRUE(holds(std::string{"type(nbdkit."} + name + ").__name__ == 'builtin_function_or_method'")) << name;
    EXPECT_TRUE(holds(std::string{"nbdkit."} + name + ".__doc__.startswith('" + name + "(')")) << name;
  }
  EXPECT_EQ(raised_by("nbdkit.no_such"), "AttributeError: module 'nbdkit' has no attribute 'no_such'");
}

TEST_F(ModuleTest, Debug) {
  run("nbdkit.debug('caf\\u00e9')\n"
      "nbdkit.debug(b'caf\\xc3\\xa9 \\xff')\n"
      "nbdkit.debug('\\udc80\\0')\n"
      "nbdkit.debug([1, None])\n"
      "nbdkit.debug(message='named')\n");
  EXPECT_EQ(fake().debugs, (std::vector<std::string>{"café", "café \\xff", "\\udc80\\x00", "[1, None]", "named"}));
  EXPECT_CONTAINS(raised_by("nbdkit.debug()"), "TypeError");
  // For the package alone: logging, warnings, tracing.
  EXPECT_TRUE(holds("not hasattr(nbdkit, '_error')"));
  run("import _nbdkit\n_nbdkit._error('100% caf\\u00e9\\0')\n");
  EXPECT_EQ(fake().errors, (std::vector<std::string>{"100% café\\x00"}));
}

TEST_F(ModuleTest, SetError) {
  EXPECT_EQ(raised_by("nbdkit.set_error(-1)"),
            "ValueError: nbdkit.set_error: err: expected an int from 0 to 4095, got int -1");
  EXPECT_CONTAINS(raised_by("nbdkit.set_error(4096)"), "ValueError");
  EXPECT_CONTAINS(raised_by("nbdkit.set_error(10 ** 30)"), "ValueError");
  EXPECT_EQ(raised_by("nbdkit.set_error('EIO')"), "TypeError: nbdkit.set_error: err: expected an int, got str 'EIO'");
  EXPECT_CONTAINS(raised_by("nbdkit.set_error(None)"), "TypeError");
  EXPECT_CONTAINS(raised_by("nbdkit.set_error(5.0)"), "TypeError");
  EXPECT_TRUE(fake().debugs.empty());
  run("nbdkit.set_error(errno.EIO)");
  EXPECT_EQ(fake().debugs.size(), 1U) << "no callback is running";
  EXPECT_TRUE(fake().errnos.empty());
}

TEST_F(ModuleTest, Actions) {
  calls("nbdkit.disconnect(True)", "disconnect 1");
  calls("nbdkit.disconnect(force=False)", "disconnect 0");
  EXPECT_EQ(text_of("nbdkit.stdio_safe()"), "True");
  EXPECT_EQ(text_of("nbdkit.timestamp()"), "noon");
  EXPECT_EQ(text_of("nbdkit.name()"), "server");
  fake().refuses = true;
  EXPECT_EQ(text_of("nbdkit.name()"), "None");
  EXPECT_EQ(text_of("nbdkit.stdio_safe()"), "False");
}

TEST_F(ModuleTest, Dumps) {
  calls("nbdkit.debug_hexdump(b'a\\x00b')", std::string{"hexdump a\0b (none) 0", 20});
  calls("nbdkit.debug_hexdump(bytearray(b'ab'), 'prefix', 2 ** 64 - 1)", "hexdump ab prefix 18446744073709551615");
  calls("nbdkit.debug_hexdump(memoryview(b'abcd').cast('H'), start=1)", "hexdump abcd (none) 1");
  calls("nbdkit.debug_hexdiff(b'ab', b'cd', prefix='p', start=3)", "hexdiff ab cd p 3");
  EXPECT_EQ(raised_by("nbdkit.debug_hexdiff(b'ab', b'c')"),
            "ValueError: nbdkit.debug_hexdiff: expected two buffers of one size, got 2 and 1 bytes");
  EXPECT_CONTAINS(raised_by("nbdkit.debug_hexdump('text')"), "TypeError");
  EXPECT_CONTAINS(raised_by("nbdkit.debug_hexdump(b'a', 3)"), "TypeError");
  EXPECT_CONTAINS(raised_by("nbdkit.debug_hexdump(b'a', 'p\\0')"), "ValueError");
  EXPECT_CONTAINS(raised_by("nbdkit.debug_hexdump(b'a', start=-1)"), "TypeError");
}

// The items of such a view are not beside each other in memory: they must be gathered, or refused.
TEST_F(ModuleTest, DumpsOfViewsThatAreNotContiguous) {
  for (const char* const view :
       {"memoryview(b'abcdef')[::2]", "memoryview(b'ace')[::-1][::-1]", "memoryview(b'eca')[::-1]"}) {
    fake().clear();
    const std::string error = raised_by(std::string{"nbdkit.debug_hexdump("} + view + ")");
    if (error.empty())
      EXPECT_EQ(fake().calls, std::vector<std::string>{"hexdump ace (none) 0"}) << view;
    else
      EXPECT_TRUE(error.starts_with("ValueError") || error.starts_with("BufferError")) << error;
  }
}

// Before the server serves, which it does not here, it cannot sleep itself; start_test has the other way.
TEST_F(ModuleTest, Nanosleep) {
  run("import time\nstart = time.monotonic()\nnbdkit.nanosleep(0, 5000000)\nassert time.monotonic() - start >= 0.005");
  EXPECT_TRUE(fake().calls.empty());
  EXPECT_CONTAINS(raised_by("nbdkit.nanosleep(-1, 0)"), "ValueError: nbdkit.nanosleep: sec: expected an int from 0 to");
  EXPECT_CONTAINS(raised_by("nbdkit.nanosleep(0, -1)"),
                  "ValueError: nbdkit.nanosleep: nsec: expected an int from 0 to");
  EXPECT_CONTAINS(raised_by("nbdkit.nanosleep(2 ** 40, 0)"), "ValueError");
  EXPECT_EQ(raised_by("nbdkit.nanosleep(0.5, 0)"), "TypeError: nbdkit.nanosleep: sec: expected an int, got float 0.5");
  EXPECT_CONTAINS(raised_by("nbdkit.nanosleep(1)"), "TypeError");
}

TEST_F(ModuleTest, NanosleepLetsOthersRun) {
  std::atomic<bool> ran = false;
  std::thread other{[&] {
    const Attach attach;
    ran = true;
  }};
  for (int i = 0; i < 1000 && !ran; ++i) run("nbdkit.nanosleep(0, 1000000)");
  EXPECT_TRUE(ran);
  Py_BEGIN_ALLOW_THREADS;
  other.join();
  Py_END_ALLOW_THREADS;
}

TEST_F(ModuleTest, ReadPassword) {
  calls("nbdkit.read_password('+file')", "read_password +file", "b'secret\\xff'");
  const std::string error = raised_where_refused("nbdkit.read_password('x')");
  EXPECT_TRUE(error.starts_with("OSError: [Errno 9] nbdkit.read_password: ")) << error;
  EXPECT_CONTAINS(raised_by("nbdkit.read_password(b'x')"),
                  "TypeError: nbdkit.read_password: expected a str, got bytes");
  EXPECT_CONTAINS(raised_by("nbdkit.read_password('a\\0b')"), "ValueError");
  EXPECT_CONTAINS(raised_by("nbdkit.read_password('\\udc80')"), "ValueError");
}

TEST_F(ModuleTest, Paths) {
  EXPECT_EQ(text_of("nbdkit.realpath('caf\\u00e9')"), "/real/café");
  EXPECT_EQ(text_of("nbdkit.absolute_path(path='x')"), "/absolute/x");
  EXPECT_TRUE(holds("nbdkit.realpath(b'\\xff') == nbdkit.realpath('\\udcff') == '/real/\\udcff'"));
  run("import pathlib");
  EXPECT_EQ(text_of("nbdkit.realpath(pathlib.Path('x'))"), "/real/x");
  for (const char* const function : {"realpath", "absolute_path"}) {
    const std::string call = std::string{"nbdkit."} + function;
    EXPECT_TRUE(raised_where_refused(call + "('x')").starts_with("FileNotFoundError: [Errno 2] nbdkit."));
    EXPECT_EQ(raised_by(call + "(3)"), "TypeError: " + call + ": expected a path, got int 3");
    EXPECT_CONTAINS(raised_by(call + "('a\\0')"), "ValueError");
  }
}

TEST_F(ModuleTest, ParseSizeAndBool) {
  calls("nbdkit.parse_size('4k')", "4k", "9223372036854775807");
  calls("nbdkit.parse_bool(str='on')", "on", "True");
  EXPECT_EQ(raised_where_refused("nbdkit.parse_size('x')"),
            "ValueError: nbdkit.parse_size: expected a size such as 512, 4k or 1G, got str 'x'");
  EXPECT_TRUE(
      raised_where_refused("nbdkit.parse_bool('x')").starts_with("ValueError: nbdkit.parse_bool: expected true"));
  for (const std::string function : {"parse_size", "parse_bool"}) {
    EXPECT_EQ(raised_by("nbdkit." + function + "(3)"), "TypeError: nbdkit." + function + ": expected a str, got int 3");
    EXPECT_CONTAINS(raised_by("nbdkit." + function + "('a\\0')"), "ValueError");
    EXPECT_CONTAINS(raised_by("nbdkit." + function + "('\\udc80')"), "ValueError");
  }
}

TEST_F(ModuleTest, ParseNumbers) {
  const std::pair<std::string, std::string> parsers[] = {
      {"parse_int", "2147483647"},
      {"parse_unsigned", "4294967295"},
      {"parse_int8_t", "127"},
      {"parse_uint8_t", "255"},
      {"parse_int16_t", "32767"},
      {"parse_uint16_t", "65535"},
      {"parse_int32_t", "2147483647"},
      {"parse_uint32_t", "4294967295"},
      {"parse_int64_t", "9223372036854775807"},
      {"parse_uint64_t", "18446744073709551615"},
      {"parse_probability", "0.25"},
      {"parse_delay", "(4294967295, 5)"},
  };
  for (const auto& [name, largest] : parsers) {
    const std::string call = "nbdkit." + name;
    calls(call + "('key', '12')", "key=12", largest);
    calls(call + "(what='key', str='12')", "key=12", largest);
    const std::string error = raised_where_refused(call + "('key', 'x')");
    EXPECT_TRUE(error.starts_with("ValueError: " + call + ": key: ")) << error;
    EXPECT_CONTAINS(error, "str 'x'");
    EXPECT_EQ(raised_by(call + "('key', 3)"), "TypeError: " + call + ": str: expected a str, got int 3");
    EXPECT_EQ(raised_by(call + "(3, '3')"), "TypeError: " + call + ": what: expected a str, got int 3");
    EXPECT_CONTAINS(raised_by(call + "('key', '3\\0')"), "ValueError");
  }
}

TEST_F(ModuleTest, Connection) {
  EXPECT_TRUE(holds("nbdkit.export_name() == 'disk \\u00e9\\udcff'"));
  EXPECT_EQ(text_of("nbdkit.is_tls()"), "True");
  EXPECT_EQ(text_of("nbdkit.peer_pid(), nbdkit.peer_uid(), nbdkit.peer_gid()"), "(101, 102, 103)");
  EXPECT_EQ(text_of("nbdkit.peer_security_context()"), "context");
  EXPECT_EQ(text_of("nbdkit.peer_tls_dn()"), "CN=client");
  EXPECT_EQ(text_of("nbdkit.peer_tls_issuer_dn()"), "CN=issuer");
  for (const std::string name : {"export_name", "is_tls", "peer_name", "peer_pid", "peer_uid", "peer_gid",
                                 "peer_security_context", "peer_tls_dn", "peer_tls_issuer_dn"}) {
    const std::string error = raised_where_refused("nbdkit." + name + "()");
    EXPECT_TRUE(error.starts_with("RuntimeError: nbdkit." + name + ": not known")) << error;
  }
}

TEST_F(ModuleTest, PeerName) {
  sockaddr_un un{AF_UNIX, "/run/caf\xC3\xA9"};
  EXPECT_EQ(peer(un), "'/run/café'");
  EXPECT_EQ(peer(un, offsetof(sockaddr_un, sun_path) + 4), "'/run'") << "without a NUL at its end";
  EXPECT_EQ(peer(un, sizeof un.sun_family), "''") << "a client without a name";
  const sockaddr_un abstract{AF_UNIX, {'\0', 'a', '\0', 'b'}};
  EXPECT_EQ(peer(abstract, offsetof(sockaddr_un, sun_path) + 4), "b'\\x00a\\x00b'");

  sockaddr_in in{.sin_family = AF_INET, .sin_port = htons(10809)};
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(peer(in), "('127.0.0.1', 10809)");
  const sockaddr_in6 in6{.sin6_family = AF_INET6,
                         .sin6_port = htons(10809),
                         .sin6_flowinfo = htonl(5),
                         .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                         .sin6_scope_id = 7};
  EXPECT_EQ(peer(in6), "('::1', 10809, 5, 7)");
  sockaddr_vm vm{};
  vm.svm_family = AF_VSOCK;
  vm.svm_cid = 3;
  vm.svm_port = 10809;
  EXPECT_EQ(peer(vm), "(3, 10809)");
}

// Of a family that is not known: its number, and what follows it, no more.
TEST_F(ModuleTest, PeerNameOfAnotherFamily) {
  const sockaddr other{77, {'a', 'b', 'c'}};
  EXPECT_EQ(peer(other, offsetof(sockaddr, sa_data) + 3), "(77, b'abc')");
  sockaddr_storage longest{};
  longest.ss_family = 77;
  peer(longest);
  EXPECT_EQ(text_of("len(nbdkit.peer_name()[1])"), std::to_string(sizeof longest - offsetof(sockaddr, sa_data)));
}

}  // namespace
}  // namespace nbdkit_python::test
