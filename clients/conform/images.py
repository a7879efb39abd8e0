"""Family F: vm_imgact_map_page, vm_imgact_unmap_page and vm_sync_icache, through the physmem port."""

from __future__ import annotations

from clients.conform.driver import RAM_PAGES, Driver
from clients.conform.families import Json
from clients.conform.stacks import pager_script
from clients.kernel import Kernel
from services.ports.pager import VmPager
from services.ports.physmem import KERNEL_SPACE, PageQueue, PageRequest, PageState, PageValid, PlacedFile

_VALID = {"none": PageValid.NONE, "partial": PageValid.PARTIAL, "all": PageValid.ALL}
_VALID_NAMES = {value: name for name, value in _VALID.items()}


class Images(Driver):
    """Image files, each an object; a mapping is called after its id, the current thread's pins go with every call."""

    def __init__(self, kernel: Kernel, given: Json) -> None:
        super().__init__(kernel, given)
        files = [
            PlacedFile(name, image["size"], [_page(index, page) for index, page in image["pages"].items()])
            for name, image in given["objects"].items()
        ]
        self.boot(RAM_PAGES + 2 * sum(len(file.pages) for file in files))
        spaces = given["vmspaces"]
        placed = kernel.physmem.place([], files, [space["refcnt"] for space in spaces.values()])
        self._spaces = {"kernel": KERNEL_SPACE, **dict(zip(spaces, placed.vmspaces, strict=True))}
        self._space_names = {id_: name for name, id_ in self._spaces.items()}
        kernel.physmem.inject([pager_script(given["pager"])])
        self._pins = 0

    def vm_imgact_map_page(self, object: str, offset: int) -> Json:
        """vm_imgact_map_page."""
        size = self.given["objects"][object]["size"]
        answer = self.kernel.physmem.vm_imgact_map_page(object, size, offset, self._pins, 0)
        self._pins = answer.pins
        result: Json = {
            "mapping": f"m{answer.mapping}" if answer.mapping else None,
            "pins": answer.pins,
            "page_requests": [_request(request, object) for request in answer.page_requests],
        }
        return {**result, "page": answer.pindex, "generation": answer.generation} if answer.mapping else result

    def vm_imgact_unmap_page(self, mapping: str) -> Json:
        """vm_imgact_unmap_page."""
        self._pins = self.kernel.physmem.vm_imgact_unmap_page(int(mapping.removeprefix("m")), self._pins).pins
        return {"pins": self._pins}

    def set_page(self, object: str, page: int, valid: str, dirty: bool) -> Json:
        """The state of a page is changed."""
        self.kernel.physmem.set_page(object, page, _VALID[valid], dirty)
        return {}

    def vm_sync_icache(self, map: str, addr: int, size: int) -> Json:
        """vm_sync_icache."""
        synced = self.kernel.physmem.vm_sync_icache(self._spaces[map], addr, size)
        return {"synced": [{"map": self._space_names[synced.vmspace], "addr": hex(synced.va), "size": hex(synced.sz)}]}

    def final(self) -> Json:
        """Resident pages, pins and live mappings."""
        answer = self.kernel.physmem.image_pages(list(self.given["objects"]))
        return {
            "objects": {
                file.file: {"pages": {str(page.pindex): _page_row(page) for page in file.pages}}
                for file in answer.files
            },
            "pins": self._pins,
            "mappings": {f"m{mapping.mapping}": {"page": mapping.pindex} for mapping in answer.mappings},
        }


def _page(index: int, given: Json) -> PageState:
    return PageState(
        index, _VALID[given["valid"]], given["dirty"], given["wired"], given["held"], PageQueue[given["queue"]]
    )


def _page_row(page: PageState) -> Json:
    return {
        "valid": _VALID_NAMES[page.valid],
        "dirty": page.dirty,
        "wired": page.wired,
        "held": page.held,
        "queue": page.queue.name,
        "busy": page.busy,
        "generation": page.generation,
    }


def _request(request: PageRequest, object: str) -> Json:
    result = VmPager(request.result).name
    return {"first": request.first, "count": request.count, "result": result, "object": object}
