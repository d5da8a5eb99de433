/* SPDX-License-Identifier: BSD-3-Clause */
/* A make-believe hypervisor: preloaded, it lets Xen's own store daemons run, unmodified, where there is no Xen.
 *
 * A store daemon asks the hypervisor for three things, through libraries of its own: which domains there are
 * (libxenctrl), a domain's memory (libxengnttab, or libxenctrl in oxenstored), and event channels (libxenevtchn). The
 * functions below take these libraries' place. Their stand-ins are in the folder $HYPERVISOR, shared with whoever plays
 * the guests (xenstore_daemon.py):
 *
 *     ring.DOMID     the page that a domain shares with the store: a file of 4096 bytes
 *     events         the daemon's end of all event channels, a datagram socket; a datagram is a port, as a uint32_t
 *     events.DOMID   a guest's end of its channel to the store; the daemon's kicks arrive there
 *
 * The daemon's port for a domain is DOMID + 1. Every domain exists whose number is not one of Xen's reserved ones.
 */
#define _GNU_SOURCE
#define XC_WANT_COMPAT_MAP_FOREIGN_API /* xc_map_foreign_range, which oxenstored uses */
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PAGE = 4096, DOMAIN_EXCEPTIONS = 65535 /* the port that says: look which domains have gone */ };

static int events = -1;
static char handle; /* what the libraries' handles point at: nothing is kept there */

static const char* folder(void) {
  const char* name = getenv("HYPERVISOR");
  return name ? name : ".";
}

/* ---- The files that the daemon asks the C library for. ---- */

/* The C library's own function of this name. */
#define NEXT(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

/* Where a file is instead. oxenstored has its folders compiled in: two of it, or one without root's rights, need
 * another to write to, and its plugin is where it was unpacked, in $XEN. */
static const char* moved(const char* path) {
  static char there[PATH_MAX];
  static const char *const written[] = {"/var/run/xen", "/run/xen", "/var/log/xen"}, plugins[] = "/usr/lib/xen-";
  const char *name = strrchr(path, '/'), *xen = getenv("XEN");
  if (xen && strncmp(path, plugins, strlen(plugins)) == 0) {
    snprintf(there, sizeof there, "%s%s", xen, path);
    return there;
  }
  for (size_t i = 0; name && i < sizeof written / sizeof *written; i++)
    if (strncmp(path, written[i], strlen(written[i])) == 0) {
      snprintf(there, sizeof there, "%s%s", folder(), name);
      return there;
    }
  return path;
}

static int ring(uint32_t domid) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/ring.%u", folder(), domid);
  int fd = NEXT(open64)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd >= 0 && ftruncate(fd, PAGE) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

/* The port by which Linux tells dom0's daemon of dom0's own kernel. */
static int port_of_dom0(void) {
  int fd = memfd_create("xsd_port", MFD_CLOEXEC);
  if (fd >= 0 && (write(fd, "1", 1) != 1 || lseek(fd, 0, SEEK_SET) != 0)) {
    close(fd);
    return -1;
  }
  return fd;
}

int open64(const char* path, int flags, ...) {
  mode_t mode = 0;
  if (flags & (O_CREAT | O_TMPFILE)) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  if (strcmp(path, "/proc/xen/xsd_port") == 0) return port_of_dom0();
  if (strcmp(path, "/proc/xen/xsd_kva") == 0) return ring(0);
  return NEXT(open64)(moved(path), flags, mode);
}

int open(const char* path, int flags, ...) __attribute__((alias("open64")));

int stat64(const char* path, struct stat64* status) { return NEXT(stat64)(moved(path), status); }

DIR* opendir(const char* path) { return NEXT(opendir)(moved(path)); }

void* dlopen(const char* path, int flags) { return NEXT(dlopen)(path ? moved(path) : NULL, flags); }

int unlink(const char* path) { return NEXT(unlink)(moved(path)); }

int mkdir(const char* path, mode_t mode) {
  if (moved(path) == path) return NEXT(mkdir)(path, mode);
  errno = EEXIST; /* the folder in its place is there */
  return -1;
}

int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t length) {
  const struct sockaddr_un* local = address.__sockaddr_un__;
  if (local->sun_family != AF_UNIX || moved(local->sun_path) == local->sun_path) return NEXT(bind)(fd, address, length);
  struct sockaddr_un there = {.sun_family = AF_UNIX};
  snprintf(there.sun_path, sizeof there.sun_path, "%s", moved(local->sun_path));
  return NEXT(bind)(fd, (const struct sockaddr*)&there, sizeof there);
}

/* oxenstored wants more open files than anyone but root may have, and gives up without. */
int setrlimit(__rlimit_resource_t resource, const struct rlimit* limit) {
  return resource == RLIMIT_NOFILE ? 0 : NEXT(setrlimit)(resource, limit);
}

/* ---- libxenctrl: which domains there are. ---- */

xc_interface* xc_interface_open(xentoollog_logger* log, xentoollog_logger* domain_log, unsigned flags) {
  return (xc_interface*)&handle;
}

int xc_interface_close(xc_interface* xch) { return 0; }

#if XEN_DOMCTL_INTERFACE_VERSION < 0x16
/* Up to Xen 4.17; as Xen does, it would answer with the next domain, if there were no such one. */
int xc_domain_getinfo(xc_interface* xch, uint32_t first, unsigned most, xc_dominfo_t* info) {
  if (most == 0 || first >= DOMID_FIRST_RESERVED) return 0;
  *info = (xc_dominfo_t){.domid = first};
  return 1;
}
#else
int xc_domain_getinfo_single(xc_interface* xch, uint32_t domid, xc_domaininfo_t* info) {
  if (domid >= DOMID_FIRST_RESERVED) {
    errno = ESRCH;
    return -1;
  }
  if (info) *info = (xc_domaininfo_t){.domain = domid};
  return 0;
}
#endif

int xc_domain_getinfolist(xc_interface* xch, uint32_t first, unsigned most, xc_domaininfo_t* info) {
  if (most == 0 || first >= DOMID_FIRST_RESERVED) return 0;
  *info = (xc_domaininfo_t){.domain = first};
  return 1;
}

/* ---- libxengnttab, and libxenctrl's older way: a domain's memory. ---- */

static void* map_ring(uint32_t domid, int prot) {
  int fd = ring(domid);
  if (fd < 0) return NULL;
  void* page = mmap(NULL, PAGE, prot, MAP_SHARED, fd, 0);
  close(fd);
  return page == MAP_FAILED ? NULL : page;
}

xengnttab_handle* xengnttab_open(xentoollog_logger* log, unsigned flags) { return (xengnttab_handle*)&handle; }

int xengnttab_close(xengnttab_handle* xgt) { return 0; }

int xengnttab_set_max_grants(xengnttab_handle* xgt, uint32_t most) { return 0; }

void* xengnttab_map_grant_ref(xengnttab_handle* xgt, uint32_t domid, uint32_t reference, int prot) {
  return map_ring(domid, prot);
}

int xengnttab_unmap(xengnttab_handle* xgt, void* start, uint32_t pages) { return munmap(start, (size_t)pages * PAGE); }

void* xc_map_foreign_range(xc_interface* xch, uint32_t domid, int size, int prot, unsigned long frame) {
  return map_ring(domid, prot);
}

/* ---- libxenevtchn: event channels. ---- */

static struct sockaddr_un events_of(const char* suffix) {
  struct sockaddr_un there = {.sun_family = AF_UNIX};
  snprintf(there.sun_path, sizeof there.sun_path, "%s/events%s", folder(), suffix);
  return there;
}

xenevtchn_handle* xenevtchn_open(xentoollog_logger* log, unsigned flags) {
  struct sockaddr_un here = events_of("");
  events = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (events < 0 || bind(events, (struct sockaddr*)&here, sizeof here) != 0) return NULL;
  return (xenevtchn_handle*)&handle;
}

int xenevtchn_close(xenevtchn_handle* xce) { return close(events); }

int xenevtchn_fd(xenevtchn_handle* xce) { return events; }

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle* xce) {
  uint32_t port;
  return recv(events, &port, sizeof port, 0) == sizeof port ? (int)port : -1;
}

int xenevtchn_unmask(xenevtchn_handle* xce, evtchn_port_t port) { return 0; }

int xenevtchn_notify(xenevtchn_handle* xce, evtchn_port_t port) {
  char suffix[16];
  snprintf(suffix, sizeof suffix, ".%u", port - 1);
  struct sockaddr_un there = events_of(suffix);
  /* Nobody there: a guest that is no more. No room: enough kicks wait for it. */
  sendto(events, &port, sizeof port, MSG_DONTWAIT, (struct sockaddr*)&there, sizeof there);
  return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle* xce, uint32_t domid, evtchn_port_t port) {
  return (int)domid + 1;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle* xce, unsigned interrupt) { return DOMAIN_EXCEPTIONS; }

int xenevtchn_unbind(xenevtchn_handle* xce, evtchn_port_t port) { return 0; }
