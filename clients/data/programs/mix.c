/* A small file for the compiler: a hash function and a search in a table of chains. */
struct cell {
	unsigned key;
	struct cell *next;
};

static unsigned mix(unsigned x)
{
	x ^= x >> 16;
	x *= 0x7feb352du;
	return x ^ x >> 15;
}

struct cell *find(struct cell **heads, unsigned key)
{
	struct cell *c = heads[mix(key) % 64];

	while (c && c->key != key)
		c = c->next;
	return c;
}
