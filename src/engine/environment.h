// What has to be said to the OpenMP runtime before it loads.
#pragma once

namespace baton::engine {

// ggml's CPU threads belong to libgomp, which reads its settings when it is loaded. Unless the person set one,
// GOMP_SPINCOUNT=10000 keeps idle workers from spinning for milliseconds and costs no speed (OMP_WAIT_POLICY=passive
// would cost 40% of decode). So the process replaces itself once, with that set. Call it first in main, before any
// thread; returns where nothing was needed or the replacement failed.
void prepare_process_environment(char** argv);

}  // namespace baton::engine
