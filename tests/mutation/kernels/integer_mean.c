/* IntegerMean: mean along axes, in the input's type. */
#define DATA waveq_kernel_in_x
#define DATA_SHAPE waveq_kernel_in_x_shape
#define DATA_RANK WAVEQ_KERNEL_IN_X_RANK
#define DATA_SIZE WAVEQ_KERNEL_IN_X_SIZE
#define data_t waveq_kernel_in_x_t
#include "mean.h"
