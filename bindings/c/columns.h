#pragma once
/// Turns a caller's columns into a batch, and outcomes into columns.

#include <span>

#include "memkv/client.h"
#include "status.h"

namespace memkv::c {

/// Turns a caller's batch into this library's struct. Its counts and addresses are checked.
Checked read_batch(const memkv_batch* from, memkv_batch& to);
/// Adds the ops of a checked batch to `to`.
void fill(const memkv_batch& from, Batch& to);

Checked read_results(const memkv_results* from, memkv_results& to);
void write(std::span<const Outcome> outcomes, const memkv_results& to);

}  // namespace memkv::c
