// SPDX-License-Identifier: BSD-3-Clause
// nbdkit's functions, as nbdkit-plugin(3) describes them. Those that only newer servers have are there too, where the
// plugin looks for them: among the symbols that this process exports.
#include "nbdkit.hpp"

#include <sys/un.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fuzz.hpp"
#include "nbdkit_python/attach.hpp"

extern "C" nbdkit_plugin* plugin_init();

namespace nbdkit_python::fuzz {
namespace {

constexpr std::size_t longest_string = 4096;  // that NBD can carry
constexpr std::size_t most_exports = 10000;

std::string formatted(const char* format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  std::string text(static_cast<std::size_t>(std::vsnprintf(nullptr, 0, format, again)), '\0');
  va_end(again);
  std::vsnprintf(text.data(), text.size() + 1, format, arguments);
  return text;
}

// A string that a script gave: what is not UTF-8 should have been refused.
void require_utf8(const char* text, const char* what) {
  const Attach attach;
  const bool good = static_cast<bool>(Ref::take(PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(strlen(text)), "")));
  PyErr_Clear();
  require(good, std::string{what} + " gets a string that is not UTF-8");
}

bool refuses() noexcept { return byte() % 4 == 1; }

int refuse(int err, const char* message) {
  nbdkit_error("%s", message);
  nbdkit_set_error(err);
  return -1;
}

// A string that the caller is to free, or null.
char* owned_text(const char* argument) {
  if (refuses()) {
    errno = byte();
    return nullptr;
  }
  return strdup((argument + text(31)).c_str());
}

// Any number at all, or -1.
template <typename Number>
int parsed(const char* what, const char* text, Number* result) {
  require_utf8(what, "a parser's what");
  require_utf8(text, "a parser");
  if (refuses()) return refuse(EINVAL, "not a number");
  *result = number<Number>();
  return 0;
}

std::int64_t peer_id() { return refuses() ? -1 : byte(); }

void look_at(const void* buffer, std::size_t size, const char* prefix) {
  // AddressSanitizer sees what is read here.
  const auto* const all = static_cast<const volatile unsigned char*>(buffer);
  for (std::size_t i = 0; i < size; ++i) static_cast<void>(all[i]);
  if (prefix != nullptr) require_utf8(prefix, "a prefix");
}

}  // namespace

const nbdkit_plugin& plugin() { return *plugin_init(); }

Record& record() noexcept {
  static auto* const instance = new Record;
  return *instance;
}

extern "C" {

void nbdkit_error(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  require(!formatted(format, arguments).empty(), "an error without a message");
  va_end(arguments);
  ++record().errors;
}

void nbdkit_debug(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  formatted(format, arguments);
  va_end(arguments);
}

void nbdkit_set_error(int err) {
  require(err > 0, "nbdkit_set_error(" + std::to_string(err) + ")");
  record().err = err;
}

const char* nbdkit_strdup_intern(const char* text) { return record().kept.insert(text).first->c_str(); }
const char* nbdkit_export_name() { return refuses() ? nullptr : nbdkit_strdup_intern(text(31).c_str()); }
int nbdkit_is_tls() { return byte() % 3 - 1; }
int nbdkit_stdio_safe() { return byte() % 2; }
void nbdkit_shutdown() {}

int nbdkit_nanosleep(unsigned, unsigned) {
  if (!refuses()) return 0;
  errno = byte();
  return -1;
}

int nbdkit_read_password(const char* value, char** password) {
  *password = owned_text(value);
  return *password != nullptr ? 0 : -1;
}

char* nbdkit_realpath(const char* path) { return owned_text(path); }
char* nbdkit_absolute_path(const char* path) { return owned_text(path); }

std::int64_t nbdkit_parse_size(const char* text) {
  std::int64_t size = 0;
  return parsed("size", text, &size) == 0 ? size & INT64_MAX : -1;
}

int nbdkit_parse_bool(const char* text) {
  require_utf8(text, "parse_bool");
  return byte() % 3 - 1;
}

int nbdkit_parse_int(const char* what, const char* str, int* r) { return parsed(what, str, r); }
int nbdkit_parse_unsigned(const char* what, const char* str, unsigned* r) { return parsed(what, str, r); }
int nbdkit_parse_int8_t(const char* what, const char* str, std::int8_t* r) { return parsed(what, str, r); }
int nbdkit_parse_uint8_t(const char* what, const char* str, std::uint8_t* r) { return parsed(what, str, r); }
int nbdkit_parse_int16_t(const char* what, const char* str, std::int16_t* r) { return parsed(what, str, r); }
int nbdkit_parse_uint16_t(const char* what, const char* str, std::uint16_t* r) { return parsed(what, str, r); }
int nbdkit_parse_int32_t(const char* what, const char* str, std::int32_t* r) { return parsed(what, str, r); }
int nbdkit_parse_uint32_t(const char* what, const char* str, std::uint32_t* r) { return parsed(what, str, r); }
int nbdkit_parse_int64_t(const char* what, const char* str, std::int64_t* r) { return parsed(what, str, r); }
int nbdkit_parse_uint64_t(const char* what, const char* str, std::uint64_t* r) { return parsed(what, str, r); }

int nbdkit_peer_name(sockaddr* address, socklen_t* size) {
  if (refuses()) return -1;
  constexpr sa_family_t families[] = {AF_UNIX, AF_INET, AF_INET6, AF_VSOCK, AF_PACKET};
  const std::string rest = bytes(byte() % sizeof(sockaddr_un));
  require(*size >= sizeof families[0] + rest.size(), "no room for an address");
  address->sa_family = families[byte() % std::size(families)];
  std::memcpy(address->sa_data, rest.data(), rest.size());
  *size = static_cast<socklen_t>(sizeof address->sa_family + rest.size());
  return 0;
}

std::int64_t nbdkit_peer_pid() { return peer_id(); }
std::int64_t nbdkit_peer_uid() { return peer_id(); }
std::int64_t nbdkit_peer_gid() { return peer_id(); }

// The real one ends the server for what wraps, at least under some filters.
int nbdkit_add_extent(nbdkit_extents* list, std::uint64_t offset, std::uint64_t length, std::uint32_t type) {
  require(length <= UINT64_MAX - offset, "an extent ends beyond 2^64");
  require(type <= (NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO), "an extent of an unknown type");
  if (length == 0) return 0;
  if (list->all.empty()) {
    if (offset > list->start) return refuse(ERANGE, "the first extent is beyond the start");
    if (offset + length <= list->start) return 0;
  } else if (offset != list->next) {
    return refuse(ERANGE, "extents must be in order and without gaps");
  }
  list->next = offset + length;
  list->all.push_back({offset, length, type});
  return 0;
}

int nbdkit_add_export(nbdkit_exports* list, const char* name, const char* description) {
  if (list->all.size() == most_exports) return refuse(EINVAL, "too many exports");
  if (strlen(name) > longest_string || (description != nullptr && strlen(description) > longest_string))
    return refuse(EINVAL, "too long a name or description");
  list->all.push_back({name, description != nullptr ? std::optional<std::string>{description} : std::nullopt});
  return 0;
}

int nbdkit_use_default_export(nbdkit_exports* list) { return nbdkit_add_export(list, "", nullptr); }

// What only newer servers have.

NBDKIT_DLL_PUBLIC void nbdkit_disconnect(int) {}
NBDKIT_DLL_PUBLIC const char* nbdkit_name() { return nbdkit_export_name(); }
NBDKIT_DLL_PUBLIC const char* nbdkit_timestamp() { return nbdkit_strdup_intern(text(31).c_str()); }
NBDKIT_DLL_PUBLIC void nbdkit_debug_hexdump(const void* buffer, std::size_t size, const char* prefix, std::uint64_t) {
  look_at(buffer, size, prefix);
}
NBDKIT_DLL_PUBLIC void nbdkit_debug_hexdiff(const void* one, const void* two, std::size_t size, const char* prefix,
                                            std::uint64_t) {
  look_at(one, size, prefix);
  look_at(two, size, prefix);
}
NBDKIT_DLL_PUBLIC int nbdkit_parse_probability(const char* what, const char* text, double* result) {
  return parsed(what, text, result);
}
NBDKIT_DLL_PUBLIC int nbdkit_parse_delay(const char* what, const char* text, unsigned* sec, unsigned* nsec) {
  return parsed(what, text, sec) == 0 ? parsed(what, text, nsec) : -1;
}
NBDKIT_DLL_PUBLIC char* nbdkit_peer_security_context() { return owned_text(""); }
NBDKIT_DLL_PUBLIC char* nbdkit_peer_tls_dn() { return owned_text(""); }
NBDKIT_DLL_PUBLIC char* nbdkit_peer_tls_issuer_dn() { return owned_text(""); }

}  // extern "C"

}  // namespace nbdkit_python::fuzz
