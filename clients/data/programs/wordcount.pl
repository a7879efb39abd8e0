# Counts words of a made-up text, then prints the most frequent ones.
use strict;
use warnings;

my ($seed, %count) = (1);
for my $line (1 .. $ARGV[0]) {
	my @words;
	for (1 .. 8) {
		$seed = $seed * 16807 % 2147483647;
		push @words, "w" . int(sqrt($seed % 250000));
	}
	$count{$_}++ for split / /, join " ", @words;
}
my @sorted = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print "$_ $count{$_}\n" for @sorted[0 .. 4];
