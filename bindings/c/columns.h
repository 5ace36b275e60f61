#pragma once
/// Batches and results as columns.

#include <span>

#include "memkv/client.h"
#include "status.h"

namespace memkv::c {

/// A caller's batch as this library's struct, its counts and addresses checked.
Checked read_batch(const memkv_batch* from, memkv_batch& to);
/// Adds the ops of a checked batch.
void fill(const memkv_batch& from, Batch& to);

Checked read_results(const memkv_results* from, memkv_results& to);
void write(std::span<const Outcome> outcomes, const memkv_results& to);

}  // namespace memkv::c
