// SPDX-License-Identifier: BSD-3-Clause
// A client of libgfapi whose graph has the translator in it, and that ends and begins again in one process.
//
//     gluster_rounds VOLFILE LOG ROUNDS
#include <errno.h>
#include <fcntl.h>
#include <glusterfs/api/glfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

int main(int count, char** words) {
  if (count != 4) return 2;
  for (int round = 0; round < atoi(words[3]); ++round) {
    glfs_t* fs = glfs_new("rounds");
    if (fs == NULL || glfs_set_volfile(fs, words[1]) != 0) fail("volfile");
    glfs_set_logging(fs, words[2], 5);
    if (glfs_init(fs) != 0) fail("init");
    glfs_fd_t* fd = glfs_creat(fs, "/file", O_RDWR, 0644);
    if (fd == NULL) fail("creat");
    char data[100] = "";
    if (glfs_pwrite(fd, "hello", 5, 0, 0, NULL, NULL) != 5) fail("pwrite");
    if (glfs_pread(fd, data, sizeof data, 0, 0, NULL) != 5 || strcmp(data, "hello") != 0) fail("pread");
    if (glfs_close(fd) != 0) fail("close");
    glfs_fini(fs);
    printf("round %d\n", round);
    fflush(stdout);
  }
  return 0;
}
