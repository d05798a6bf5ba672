"""Finding a lead from any page."""

from typing import Annotated

from fastapi import APIRouter, Form, Response

from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.search import MAX_QUESTION, LeadSearch
from services.scorer.ui.frame import MAX_PLACE, Frame, own_path, see_other
from services.scorer.ui.lead_names import names_of_views


class FindRoutes:
    """The form at the top of every page."""

    def __init__(self, search: LeadSearch, leads: LeadQueries, frame: Frame) -> None:
        self._search, self._leads, self._frame = search, leads, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the route."""
        router.add_api_route("/find", self.find, methods=["POST"])

    async def find(
        self,
        lead: Annotated[str, Form(max_length=MAX_QUESTION)] = "",
        email: Annotated[str, Form(max_length=MAX_QUESTION)] = "",
        to: Annotated[str, Form(max_length=MAX_PLACE)] = "/",
    ) -> Response:
        """Goes to the lead that is meant, or lists those that may be; what is looked for stays out
        of every URL. `email` is another name of `lead`.
        """
        found = await self._search.find(lead or email)
        if len(found.leads) == 1:
            return see_other(f"/leads/{found.leads[0]}")
        product = self._leads.products[0]
        listed = await self._leads.chosen(found.leads, product)
        return self._frame.page(
            "find.html",
            200 if found.leads else 404,
            here="",
            asked=(lead or email).strip(),
            listed=listed,
            names=names_of_views(listed.leads),
            more=found.more,
            product=product,
            products=self._leads.products,
            back=own_path(to),
        )
