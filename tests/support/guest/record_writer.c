/* The guest's only application. Appends numbered records to a raw disk, flushes after each, and only then acknowledges it
 * on the console: whoever recorded "ACK n" outside may demand record n from any disk that claims to be this one.
 *
 * Record n lies at n * 4096: "record <n> <crc32 in hex>\n", then bytes that depend on n. The checksum covers "record <n>" and
 * all bytes after the first 64. Numbers start at 1; block 0 is never written. read_records.py reads the same format.
 *
 * record_writer DISK [RECORDS_PER_SECOND]      powers the machine off at SIGTERM and at the ACPI power button
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

enum { block_size = 4096, head_size = 64, scan_size = 1 << 20, scan_patience = 16, keys_max = 8 };

static volatile sig_atomic_t stop_wanted = 0;

static void on_terminate(int number) {
    (void)number;
    stop_wanted = 1;
}

static uint32_t crc32_of(uint32_t crc, const unsigned char* bytes, size_t count) {
    crc = ~crc;
    for (size_t i = 0; i < count; ++i) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ (0xEDB88320U & (0U - (crc & 1U)));
        }
    }
    return ~crc;
}

static uint32_t checksum(unsigned long long number, const unsigned char* block) {
    char text[head_size];
    int length = snprintf(text, sizeof text, "record %llu", number);
    uint32_t crc = crc32_of(0, (const unsigned char*)text, (size_t)length);
    return crc32_of(crc, block + head_size, block_size - head_size);
}

static void fill(unsigned long long number, unsigned char* block) {
    memset(block, 0, head_size);
    for (int i = head_size; i < block_size; ++i) {
        block[i] = (unsigned char)('a' + (number + (unsigned)i / 64U) % 26U);
    }
    snprintf((char*)block, head_size, "record %llu %08x\n", number, checksum(number, block));
}

static int is_record(unsigned long long number, const unsigned char* block) {
    char expected[head_size];
    int length = snprintf(expected, sizeof expected, "record %llu ", number);
    if (memcmp(block, expected, (size_t)length) != 0) {
        return 0;
    }
    snprintf(expected, sizeof expected, "record %llu %08x\n", number, checksum(number, block));
    return memcmp(block, expected, strlen(expected)) == 0;
}

/* The last valid record; gives up after 16 MiB without one. */
static unsigned long long scan(int disk, unsigned char* buffer, unsigned long long size) {
    unsigned long long last = 0;
    int empty = 0;
    for (unsigned long long at = 0; at < size && empty < scan_patience; at += scan_size, ++empty) {
        ssize_t count = pread(disk, buffer, scan_size, (off_t)at);
        if (count <= 0) {
            break;
        }
        for (ssize_t i = 0; i + block_size <= count; i += block_size) {
            unsigned long long number = (at + (unsigned long long)i) / block_size;
            if (number > 0 && is_record(number, buffer + i)) {
                last = number;
                empty = -1;
            }
        }
    }
    return last;
}

static int open_power_buttons(struct pollfd* keys) {
    int count = 0;
    for (int i = 0; i < keys_max; ++i) {
        char path[64];
        snprintf(path, sizeof path, "/dev/input/event%d", i);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0) {
            keys[count++] = (struct pollfd){.fd = fd, .events = POLLIN, .revents = 0};
        }
    }
    return count;
}

static void wait_for_button(struct pollfd* keys, int count, int milliseconds) {
    if (poll(keys, (nfds_t)count, milliseconds) <= 0) {
        return;
    }
    for (int i = 0; i < count; ++i) {
        struct input_event event;
        while (read(keys[i].fd, &event, sizeof event) == (ssize_t)sizeof event) {
            if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
                stop_wanted = 1;
            }
        }
    }
}

static long long milliseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void power_off(void) {
    sync();
    printf("SHUTDOWN\n");
    fflush(stdout);
    fsync(STDOUT_FILENO);
    usleep(100000);
    reboot(RB_POWER_OFF);
}

static void append_records(int disk, unsigned char* block, unsigned long long last, unsigned long long size, int period) {
    struct pollfd keys[keys_max];
    int key_count = open_power_buttons(keys);
    long long next = milliseconds_now();
    int failures = 0;
    while (!stop_wanted) {
        unsigned long long number = last + 1;
        long long remaining = next - milliseconds_now();
        wait_for_button(keys, key_count, remaining > 0 ? (int)remaining : 0);
        if (stop_wanted || milliseconds_now() < next) {
            continue;
        }
        next = milliseconds_now() + period;
        if ((number + 1) * block_size > size) {
            printf("FULL %llu\n", last);
            next += 1000000;
            continue;
        }
        fill(number, block);
        if (pwrite(disk, block, block_size, (off_t)(number * block_size)) != block_size || fdatasync(disk) != 0) {
            /* Not acknowledged; the same number is tried again. */
            printf("FAILED %llu %s\n", number, strerror(errno));
            next += ++failures > 10 ? 1000 : 100;
            continue;
        }
        printf("ACK %llu\n", number);
        last = number;
    }
}

int main(int argc, char** argv) {
    if (argc < 2) {
        return 2;
    }
    int rate = argc > 2 ? atoi(argv[2]) : 80;
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sigaction action = {.sa_handler = on_terminate};
    sigaction(SIGTERM, &action, NULL);
    int disk = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
    unsigned long long size = 0;
    void* buffer = NULL;
    if (disk < 0 || ioctl(disk, BLKGETSIZE64, &size) != 0 || posix_memalign(&buffer, block_size, scan_size) != 0) {
        printf("NO DISK %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    unsigned long long last = scan(disk, buffer, size);
    printf("BOOT last=%llu\n", last);
    append_records(disk, buffer, last, size, rate > 0 ? 1000 / rate : 12);
    power_off();
    return 0;
}
