/* A wall clock that is wrong: preloaded into a process, it adds the seconds that the file SKEW_FILE holds to the time of
 * day. The file is read at each call, so a test can step the clock of a running process. Other clocks stay as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*real)(clockid_t, struct timespec *);
    static int file = -1;
    char text[32];
    ssize_t length;
    int result;

    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    result = real(clock, time);
    if (clock != CLOCK_REALTIME)
        return result;
    if (file < 0) {
        const char *path = getenv("SKEW_FILE");
        file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    }
    length = file < 0 ? 0 : pread(file, text, sizeof text - 1, 0);
    if (length > 0) {
        text[length] = '\0';
        time->tv_sec += atol(text);
    }
    return result;
}
