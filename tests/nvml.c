/* NVIDIA's management library as far as nvidia-ml-py calls it here. What it says is read from the file that
 * ODC_TEST_NVML names, anew at every nvmlInit, so that tests can break it while a program runs:
 *
 *   init CODE          nvmlInit fails
 *   count CODE         counting fails
 *   version CODE       the driver's version cannot be told
 *   gpu UUID NAME GIB CODE     one GPU, whose questions fail with CODE unless that is 0; underscores in NAME are blanks
 *   numa INDEX NODE            the GPU of this index is in that NUMA node; without a line, that is unknown
 *   link INDEX INDEX           NVLink connects these two
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16, OK = 0, INVALID = 2 };
struct gpu {
    char uuid[96], name[96];
    double gib;
    int code, index;
};
static struct gpu gpus[MOST];
static int number, init_code, count_code, version_code, numa[MOST], linked[MOST][MOST];

static void read_file(void) {
    char line[512];
    const char *path = getenv("ODC_TEST_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    int first, second;
    number = init_code = count_code = version_code = 0;
    memset(numa, -1, sizeof numa);
    memset(linked, 0, sizeof linked);
    while (file && fgets(line, sizeof line, file)) {
        struct gpu *gpu = &gpus[number];
        sscanf(line, "init %d", &init_code);
        sscanf(line, "count %d", &count_code);
        sscanf(line, "version %d", &version_code);
        if (sscanf(line, "numa %d %d", &first, &second) == 2) numa[first] = second;
        if (sscanf(line, "link %d %d", &first, &second) == 2) linked[first][second] = linked[second][first] = 1;
        if (number < MOST && sscanf(line, "gpu %95s %95s %lf %d", gpu->uuid, gpu->name, &gpu->gib, &gpu->code) == 4) {
            for (char *at = gpu->name; *at; at++)
                if (*at == '_') *at = ' ';
            gpu->index = number++;
        }
    }
    if (file) fclose(file);
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    read_file();
    return init_code;
}
int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = number;
    return count_code;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if ((int)index >= number) return INVALID;
    *handle = &gpus[index];
    return gpus[index].code;
}
static int text(const struct gpu *gpu, const char *value, char *target, unsigned size) {
    snprintf(target, size, "%s", value);
    return gpu ? gpu->code : version_code;
}
int nvmlDeviceGetUUID(struct gpu *gpu, char *target, unsigned size) { return text(gpu, gpu->uuid, target, size); }
int nvmlDeviceGetName(struct gpu *gpu, char *target, unsigned size) { return text(gpu, gpu->name, target, size); }
int nvmlSystemGetDriverVersion(char *target, unsigned size) { return text(NULL, "550.54.15", target, size); }
int nvmlDeviceGetMemoryInfo(struct gpu *gpu, unsigned long long *memory) {
    memory[0] = (unsigned long long)(gpu->gib * (1 << 30));
    memory[1] = memory[0];
    memory[2] = 0;
    return gpu->code;
}
int nvmlDeviceGetMinorNumber(struct gpu *gpu, unsigned *minor) {
    *minor = gpu->index;
    return gpu->code;
}
int nvmlDeviceGetP2PStatus(struct gpu *one, struct gpu *other, int capability, int *status) {
    *status = capability == 2 && linked[one->index][other->index] ? 0 : 1;
    return OK;
}
int nvmlDeviceGetMemoryAffinity(struct gpu *gpu, unsigned words, unsigned long *set, unsigned scope) {
    (void)scope;
    memset(set, 0, words * sizeof *set);
    if (numa[gpu->index] < 0) return 3; /* not supported */
    set[numa[gpu->index] / 64] = 1UL << (numa[gpu->index] % 64);
    return OK;
}
const char *nvmlErrorString(int code) {
    return code == 15 ? "GPU is lost" : code == 18 ? "Driver/library version mismatch" : "Unknown Error";
}
