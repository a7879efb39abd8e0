"""Physical memory: page array, queues, objects, address maps, pmap, kernel VA and the page daemon's scan."""
