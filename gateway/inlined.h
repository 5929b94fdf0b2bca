// For what a packet's way takes apart for reading, and must not cost a call.
#pragma once

#define ADIT_INLINED [[gnu::always_inline]] inline
