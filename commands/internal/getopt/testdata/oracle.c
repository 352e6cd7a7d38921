/*
 * Reads command lines and says what the C library's getopt_long makes of them.
 *
 * Input, in lines: a case is "MODE N M" (MODE: 1 long only, 2 POSIXLY_CORRECT),
 * then N options "NAME HAS_ARG VAL", then M arguments in hex ("-" for an empty
 * one). Output, one line for each case: " oINDEX" or " oINDEX=HEX" for each
 * option, then " ?" for an error, or " |" and the operands in hex.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *unhex(const char *s)
{
	size_t n = strcmp(s, "-") ? strlen(s) / 2 : 0;
	char *out = malloc(n + 1);
	unsigned b;

	for (size_t i = 0; i < n; i++) {
		sscanf(s + 2 * i, "%2x", &b);
		out[i] = (char)b;
	}
	out[n] = 0;
	return out;
}

static void hex(const char *s)
{
	if (!*s)
		putchar('-');
	for (; *s; s++)
		printf("%02x", (unsigned char)*s);
}

int main(void)
{
	int mode, n, m;
	static char text[1 << 16];

	opterr = 0;
	while (scanf("%d %d %d", &mode, &n, &m) == 3) {
		struct option *opts = calloc(n + 1, sizeof *opts);
		char **argv = calloc(m + 2, sizeof *argv);
		int c, index;

		for (int i = 0; i < n; i++) {
			if (scanf("%65535s %d %d", text, &opts[i].has_arg, &opts[i].val) != 3)
				return 1;
			opts[i].name = strdup(text);
		}
		argv[0] = "tool";
		for (int i = 1; i <= m; i++) {
			if (scanf("%65535s", text) != 1)
				return 1;
			argv[i] = unhex(text);
		}
		if (mode & 2)
			setenv("POSIXLY_CORRECT", "1", 1);
		else
			unsetenv("POSIXLY_CORRECT");
		optind = 0;
		for (;;) {
			index = -1;
			c = mode & 1 ? getopt_long_only(m + 1, argv, "", opts, &index)
				     : getopt_long(m + 1, argv, "", opts, &index);
			if (c == -1 || c == '?')
				break;
			printf(" o%d", index);
			if (optarg) {
				putchar('=');
				hex(optarg);
			}
		}
		if (c == '?') {
			printf(" ?\n");
			continue;
		}
		printf(" |");
		for (int i = optind; i <= m; i++) {
			putchar(' ');
			hex(argv[i]);
		}
		putchar('\n');
	}
	return 0;
}
