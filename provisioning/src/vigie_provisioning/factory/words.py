"""What the person at the bench reads: why a board was put aside, and what to do with it."""

from __future__ import annotations

from vigie.contract.bench import Code, Test
from vigie_provisioning.factory.jobs import Job, Parked
from vigie_provisioning.factory.steps import Step
from vigie_provisioning.i18n import _


def why(parked: Parked) -> str:
    """A sentence, with the engineer's detail behind it."""
    text = _reasons().get(parked.code) or _("une raison que ce poste ne connaît pas ({code})").format(code=parked.code)
    return f"{text} [{parked.detail}]" if parked.detail else text


def step_name(step: Step) -> str:
    """How far a board is."""
    return {
        Step.NEW: _("à écrire"),
        Step.FLASHED: _("image écrite"),
        Step.TESTED: _("essais réussis"),
        Step.KEYED: _("clé créée"),
        Step.REGISTERED: _("inscrite au registre"),
        Step.SEALED: _("identité écrite"),
        Step.CONFIRMED: _("redémarrée en service"),
        Step.DONE: _("terminée"),
    }[step]


def test_name(test: Test) -> str:
    """What is being tried."""
    return {
        Test.TEMPERATURE: _("température et alimentation"),
        Test.EMMC: _("mémoire eMMC"),
        Test.NICS: _("les deux ports réseau"),
        Test.LEDS: _("voyants"),
        Test.BUTTON: _("bouton"),
        Test.WATCHDOG: _("chien de garde"),
    }[test]


def summary(job: Job) -> str:
    """One line of the list of boards."""
    state = _("mise de côté : {why}").format(why=why(job.parked)) if job.parked else step_name(job.step)
    return f"{job.chip}  {job.serial}  {state}"


def _reasons() -> dict[str, str]:
    return {
        Code.UNKNOWN.value: _("la carte porte un logiciel plus ancien que ce poste ; la réécrire"),
        Code.NOT_NOW.value: _("la carte n'est pas à l'étape attendue ; l'éteindre, la rallumer, la reprendre"),
        Code.MALFORMED.value: _("la carte ne comprend pas ce poste ; même version des deux côtés ?"),
        Code.DISK_FULL.value: _("plus de place sur la mémoire de la carte ; la réécrire, sinon la rebuter"),
        Code.DISK.value: _("la mémoire de la carte refuse d'écrire ; la rebuter si cela se répète"),
        Code.KEY_SPOILT.value: _("le fichier de la clé est abîmé ; repartir à neuf (`again`)"),
        Code.SEALED_AS.value: _("la carte porte déjà une autre étiquette ; chercher lequel des deux postes l'a écrite"),
        Code.MACHINE.value: _("un essai n'a pas pu se faire"),
        Code.PORTS_COUNT.value: _("la carte ne voit pas exactement deux ports réseau ; vérifier la carte porteuse"),
        Code.PORT_NO_LINK.value: _("un port réseau est sans câble ; la boucle relie-t-elle les deux ports ?"),
        Code.PORT_SLOW.value: _("un port réseau n'atteint pas 1 Gbit/s ; changer le câble de boucle, sinon rebuter"),
        Code.FRAMES_LOST.value: _("des trames se perdent entre les ports ; changer le câble de boucle, sinon rebuter"),
        Code.LEDS_NONE.value: _("les voyants ne répondent pas"),
        Code.BUTTON_NONE.value: _("le bouton ne répond pas"),
        Code.BUTTON_STUCK.value: _("le bouton reste enfoncé"),
        Code.BUTTON_SILENT.value: _("aucun appui sur le bouton n'a été vu"),
        Code.EMMC_NONE.value: _("la mémoire eMMC ne se présente pas"),
        Code.EMMC_WORN.value: _("la mémoire eMMC est usée ; rebuter la carte"),
        Code.EMMC_READ_BACK.value: _("la mémoire eMMC relit autre chose que ce qui fut écrit ; rebuter la carte"),
        Code.WATCHDOG_NONE.value: _("le chien de garde ne répond pas"),
        Code.WATCHDOG_BUSY.value: _("le chien de garde est tenu par un autre programme"),
        Code.HOT.value: _("la carte est trop chaude ; dissipateur en place ?"),
        Code.COLD.value: _("la carte est trop froide ; la laisser revenir à la température de la pièce"),
        Code.NO_SENSOR.value: _("la sonde de température ne répond pas"),
        Code.UNDERVOLTAGE.value: _("la tension d'alimentation a faibli ; changer de bloc d'alimentation"),
        "silent": _("la carte ne dit rien après l'écriture ; cavalier retiré, câble série, alimentation ?"),
        "wrong-image": _("la carte ne porte pas l'image attendue ; la réécrire"),
        "read-back": _("ce qui est relu n'est pas ce qui fut écrit ; autre câble USB, sinon rebuter la carte"),
        "disk": _("la mémoire de cette carte ne peut pas être écrite"),
        "proof": _("la carte n'a pas prouvé qu'elle détient sa clé ; ne pas la livrer"),
        "key-changed": _("la clé de la carte n'est plus celle d'avant ; ne pas la livrer, repartir à neuf (`again`)"),
        "key-lost": _("la clé de la carte a disparu ; repartir à neuf (`again`)"),
        "registered-other": _("ce numéro est inscrit avec une autre clé ; bloquer l'ancienne, puis `again`"),
        "sealed-unknown": _("en service mais absente du registre ; repartir à neuf (`again`)"),
        "leds-seen": _("l'opérateur n'a pas vu tous les voyants"),
        "no-reset": _("le chien de garde n'a pas redémarré la carte ; ne pas la livrer"),
        "line": _("la liaison série se coupe sans cesse ; câble, adaptateur ?"),
    }
