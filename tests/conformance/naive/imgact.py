"""Family F: vm_imgact_hold_page, map_page, unmap_page and vm_sync_icache (vm_glue.c:225-301)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from naive.words import PAGE_SIZE, Json, Panic


@dataclass
class Page:
    """A page of an image's object."""

    index: int
    valid: str = "none"
    dirty: bool = False
    wired: int = 0
    held: int = 0
    queue: str = "NONE"
    busy: bool = False
    generation: int = 0


class Image:
    """Objects, live mappings and the current thread's pins."""

    def __init__(self, given: Json) -> None:
        self.objects: dict[str, dict[int, Page]] = {}
        for name, given_object in given.get("objects", {}).items():
            pages = self.objects[name] = {}
            for index, state in given_object.get("pages", {}).items():
                page = Page(int(index), **{"valid": "all", "queue": "INACTIVE", **state})
                page.queue = "NONE" if page.wired else page.queue
                pages[page.index] = page
        self.pager = list(given.get("pager", []))
        self.pins = 0
        self.made = 0
        self.mappings: dict[str, Page] = {}

    def _get_pages(self, name: str, index: int) -> str:
        """vm_pager_get_pages of one busy page, as the case's script says."""
        script = self.pager.pop(0) if self.pager else {}
        pages = self.objects[name]
        if 0 in script.get("replace", []):
            pages[index] = replace(pages[index], generation=pages[index].generation + 1)
        result: str = script.get("result", "OK")
        if result == "OK" and script.get("filled", 1):
            pages[index].valid, pages[index].dirty = "all", False
        if 0 in script.get("vanish", []):
            del pages[index]
        return result

    def _hold_page(self, name: str, index: int, requests: list[Json]) -> Page | None:
        """vm_imgact_hold_page."""
        pages = self.objects[name]
        page = pages.setdefault(index, Page(index))
        page.busy = True
        if page.valid != "all":
            result = self._get_pages(name, index)
            requests.append({"first": index, "count": 1, "result": result, "object": name})
            found = pages.get(index)
            if found is None:
                return None
            page = found
            if result != "OK":
                del pages[index]
                if page.wired:
                    raise Panic("vm_page_free: freeing wired page")
                return None
        page.busy = False
        page.held += 1
        if not page.wired:
            page.queue = "ACTIVE"
        return page

    def vm_imgact_map_page(self, object: str, offset: int) -> Json:
        """vm_imgact_map_page."""
        requests: list[Json] = []
        page = self._hold_page(object, offset // PAGE_SIZE, requests)
        if page is None:
            return {"mapping": None, "pins": self.pins, "page_requests": requests}
        self.pins += 1
        self.made += 1
        label = f"m{self.made}"
        self.mappings[label] = page
        return {
            "mapping": label,
            "page": page.index,
            "generation": page.generation,
            "pins": self.pins,
            "page_requests": requests,
        }

    def vm_imgact_unmap_page(self, mapping: str) -> Json:
        """vm_imgact_unmap_page."""
        page = self.mappings.pop(mapping)
        self.pins -= 1
        page.held -= 1
        return {"pins": self.pins}

    def set_page(self, object: str, page: int, valid: str, dirty: bool = False) -> Json:
        """The page's state is changed."""
        self.objects[object][page].valid, self.objects[object][page].dirty = valid, dirty
        return {}

    def vm_sync_icache(self, map: str, addr: str, size: str) -> Json:
        """vm_sync_icache."""
        return {"synced": [{"map": map, "addr": addr, "size": size}]}

    def final(self) -> Json:
        """Resident pages, pins and live mappings."""
        fields = ("valid", "dirty", "wired", "held", "queue", "busy", "generation")
        return {
            "objects": {
                name: {
                    "pages": {str(index): {key: getattr(page, key) for key in fields} for index, page in pages.items()}
                }
                for name, pages in self.objects.items()
            },
            "pins": self.pins,
            "mappings": {label: {"page": page.index} for label, page in self.mappings.items()},
        }
