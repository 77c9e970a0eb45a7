"""What the flows tell Prefect's event stream, so that automations can follow."""

from __future__ import annotations

from flows.summary import SceneSummary

PUBLISHED = "decloud.scene.published"


def tell_published(scene: SceneSummary) -> None:
    """Emit `decloud.scene.published` for a product that was just made; for any other end of a scene nothing.

    Resource: `declouder.scene.<id of the source item>`. Payload: JSON types, no credentials.
    """
    if scene.state != "done":
        return
    from prefect.events import emit_event

    emit_event(
        event=PUBLISHED,
        resource={"prefect.resource.id": f"declouder.scene.{scene.scene}", "prefect.resource.name": scene.name},
        payload={
            "scene": scene.scene,
            "product": scene.product_id,
            "item": scene.product,
            "run_key": scene.figures.run_key,
            "shares": {name: float(share) for name, share in scene.figures.provenance.items()},
        },
    )
