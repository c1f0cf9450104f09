"""What the pages share: read-only tables, edits and actions that go through the services, their audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin import (
    AllValuesFieldListFilter,
    EmptyFieldListFilter,
    ModelAdmin,
    ShowFacets,
    SimpleListFilter,
    helpers,
)
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from vigie_department.console.services import audit
from vigie_department.console.services.audit import Actor
from vigie_department.console.web.login import actor
from vigie_department.errors import DepartmentError

if TYPE_CHECKING:
    Page = ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
else:
    # Django's classes take parameters in their stubs only
    Page, ModelForm = ModelAdmin, forms.ModelForm


SOON: Final = timedelta(days=7)


class ReadOnly(Page):
    """Looked at, never edited: what it holds is written by a process."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    # Django's own log of changes says less than the audit, and may be edited: it is not written
    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """Said by the services."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """Said by the services."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:  # type: ignore[override]
        """Said by the services."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without Django's deletion in bulk: deleting goes through the services, one by one."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Titled by what it lists, rather than by an instruction."""
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Titled by what it is: Django's "Ajout de exception" is no French."""
        context: dict[str, Any] = {"title": capfirst(self.opts.verbose_name)}
        found = self.get_object(request, object_id) if object_id else None
        if found is not None:
            context["subtitle"] = self.name_of(found)
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def name_of(self, obj: Any) -> str:
        """What a row's own page calls it."""
        return str(obj)

    def may(self, request: HttpRequest, permission: str) -> bool:
        """A permission of the console's own."""
        return request.user.has_perm(f"console.{permission}")


class Consulted(ReadOnly):
    """A page whose every visit is in the audit: it tells what happened in one commune."""

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page; a visit that is refused or finds nothing is no consultation."""
        response = super().change_view(request, object_id, form_url, extra_context)
        if request.method == "GET" and response.status_code == 200:
            found = self.get_object(request, object_id)
            if found is not None:
                audit.record(actor(request), f"{found._meta.model_name}.show", found)
        return response


def in_words(say: Callable[[str], str]) -> type[AllValuesFieldListFilter]:
    """A filter beside a list whose values are codes: what people read is `say` of each."""

    class InWords(AllValuesFieldListFilter):
        """Django's, with other words."""

        def choices(self, changelist: Any) -> Iterator[Any]:
            """Django names a choice by its value."""
            codes = {str(value) for value in self.lookup_choices}
            for choice in super().choices(changelist):
                name = str(choice["display"])
                yield {**choice, "display": say(name) if name in codes else name}

    return InWords


def two_ways(name: Any, empty: Any, filled: Any) -> type[EmptyFieldListFilter]:
    """A filter on a date that is there once something was done; texts: what it asks, not yet, done."""

    class TwoWays(EmptyFieldListFilter):
        """Django's says "empty" and "not empty"."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.title = name

        def choices(self, changelist: Any) -> Iterator[Any]:
            """All, not yet, done: in Django's order."""
            for choice, display in zip(super().choices(changelist), (None, empty, filled), strict=True):
                yield choice if display is None else {**choice, "display": display}

    return TwoWays


def in_force(ended: str, choices: tuple[tuple[str, Any], ...]) -> type[SimpleListFilter]:
    """A filter on what ends by itself (`until`) or earlier (the date in field `ended`).

    choices: words for `now`, `over`, and `soon` where ending within a week says something.
    """

    class InForce(SimpleListFilter):
        """By whether it still counts."""

        title = gettext_lazy("validité")
        parameter_name = "validity"

        def lookups(self, request: HttpRequest, model_admin: Any) -> tuple[tuple[str, Any], ...]:
            """The words."""
            return choices

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            """Those rows."""
            now = timezone.now()
            alive = Q(**{ended: None}, until__gt=now)
            wanted = {"now": alive, "soon": alive & Q(until__lte=now + SOON), "over": ~alive}
            return queryset.filter(wanted[value]) if (value := self.value()) in wanted else queryset

    return InForce


def only_yes(value: bool | None) -> str:
    """For what is rarely so, and no fault when it is not: a red cross would say so."""
    return str(_("oui")) if value else "–"


class ReasonForm(forms.Form):
    """The least that an action asks for."""

    why = forms.CharField(max_length=100, widget=forms.TextInput(attrs={"size": 60, "autofocus": True}))


def ask(
    page: Page,
    request: HttpRequest,
    queryset: QuerySet[Any],
    *,
    action: str,
    title: str,
    text: str,
    form: type[forms.Form],
    labels: dict[str, str],
    apply: Callable[[Actor, Any, dict[str, Any]], object],
    most: int = 50,
) -> HttpResponse | None:
    """An action with a question in between: which rows, why, what else.

    apply: called per row with who acts, the row and the form's values; a DepartmentError is shown and the other rows go
    on. Returns the page that asks, or None when it is done (Django then shows the list).
    """
    if queryset.count() > most:
        page.message_user(request, _("{n} au plus à la fois. {text}").format(n=most, text=text), messages.ERROR)
        return None
    posted = request.POST if "apply" in request.POST else None
    asked = form(posted)
    for name, label in labels.items():
        asked.fields[name].label = label
    if posted is not None and asked.is_valid():
        for row in queryset:
            try:
                apply(actor(request), row, asked.cleaned_data)
            except DepartmentError as error:
                page.message_user(request, f"{row} : {error}", messages.ERROR)
            else:
                page.message_user(request, f"{row} : {title}", messages.SUCCESS)
        return None
    context = {
        **page.admin_site.each_context(request),
        # `title` tells what was done; the page that asks has the name of the action in the list
        "title": getattr(getattr(page, action), "short_description", title),
        "text": text,
        "rows": list(queryset),
        "form": asked,
        "action": action,
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
        "opts": page.model._meta,
    }
    return TemplateResponse(request, "console/action.html", context)


def listing(rows: list[tuple[Any, ...]]) -> SafeString | str:
    """A small table inside a page."""
    if not rows:
        return "-"
    body = format_html_join(
        "", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows)
    )
    return format_html('<table class="vigie-inner">{}</table>', body)
